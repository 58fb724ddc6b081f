"""What a home other than Python needs to run a bundle: a browser, Node, a program in C.

Each home is a folder of templates and the files of the bundle that it runs; none of it needs torch or onnx.
"""
