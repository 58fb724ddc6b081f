"""From a finished INT8 graph of standard operators to one for vit-edge's own kernels.

The numbers stay: which layers are integer, their ranges and codes are those of the portable file. What
changes is who computes them: each product takes its neighbours (non-linearity, residual, next quantizer) into
one operator of the package `vit-edge-kernels`. What no rule knows stays with onnxruntime.
"""
