"""The device side: decode, preprocess, load, run, classify. Needs numpy, Pillow and onnxruntime only."""
