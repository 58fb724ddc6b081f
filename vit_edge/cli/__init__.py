"""The command line: parse, one library call, print. What needs torch or onnx is imported inside functions."""

from vit_edge.cli.entry import main

__all__ = ["main"]
