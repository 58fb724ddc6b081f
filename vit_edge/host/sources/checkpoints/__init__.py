"""Reads trained ViT and DeiT classifiers into `VisionTransformer`, without transformers or timm."""

from vit_edge.host.sources.checkpoints.files import (
    file_sha256,
    files_sha256,
    read_state_dict,
    read_weights,
)
from vit_edge.host.sources.checkpoints.layouts import Layout, detect_layout, to_huggingface
from vit_edge.host.sources.checkpoints.load import build, resize_notes, resize_position_embedding

__all__ = [
    "Layout",
    "build",
    "detect_layout",
    "file_sha256",
    "files_sha256",
    "read_state_dict",
    "read_weights",
    "resize_notes",
    "resize_position_embedding",
    "to_huggingface",
]
