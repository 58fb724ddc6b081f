"""Turns what a user names (folder, checkpoint, ONNX file, own code) into a model with its preprocessing."""

from vit_edge.host.sources.archs import ARCHS, Arch
from vit_edge.host.sources.resolve import resolve
from vit_edge.host.sources.types import Source, SourceKind, SourceOptions

__all__ = ["ARCHS", "Arch", "Source", "SourceKind", "SourceOptions", "resolve"]
