"""One model file in, one model file out: export, rewrite, parity, reading and writing ONNX.

The commands `export`, `optimize`, `quantize` and `inspect` call this room.
"""
