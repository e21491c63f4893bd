"""An HTTP endpoint that classifies uploaded images in batches; needs the extra ``serve``."""
