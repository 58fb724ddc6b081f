"""Everything that needs torch or onnx: sources, export, rewriting, calibration, quantization, reports."""
