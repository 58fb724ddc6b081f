"""From composites to standard ONNX operators: float, or INT8 in QDQ form, for a fixed or a dynamic batch.

Each composite has its own file; what a layer becomes is decided by the `QuantPlan`, never by a name. The
output is one portable file (opset 20, IR 10, default domain) that stock onnxruntime fuses into its fast
kernels.
"""
