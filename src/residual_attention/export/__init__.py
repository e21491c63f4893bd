"""Exports a trained network to one ONNX file with everything that prediction needs; the extra ``export``."""
