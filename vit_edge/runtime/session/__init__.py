"""A model loaded into onnxruntime: providers, compiled contexts, and the truth about where it runs.

Takes a number of threads as it is; measuring which number is best lives above, in `measure`.
"""
