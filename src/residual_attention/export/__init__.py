"""From a trained network to one ONNX file with everything that a prediction needs; the extra ``export``."""
