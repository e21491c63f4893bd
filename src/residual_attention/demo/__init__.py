"""A local web page that classifies an image and shows the masks; needs the extra ``demo``."""
