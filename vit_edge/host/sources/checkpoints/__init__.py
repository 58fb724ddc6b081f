"""Reads trained ViT and DeiT classifiers into `VisionTransformer`, without transformers or timm."""

from vit_edge.host.sources.checkpoints.files import (
    file_sha256,
    files_sha256,
    read_state_dict,
    read_weights,
)
from vit_edge.host.sources.checkpoints.known import detect_layout
from vit_edge.host.sources.checkpoints.layout import Layout, Resampling
from vit_edge.host.sources.checkpoints.layouts.huggingface import to_huggingface
from vit_edge.host.sources.checkpoints.load import (
    build,
    refuse_names,
    resize_notes,
)
from vit_edge.host.sources.checkpoints.resample import resize_position_embedding

__all__ = [
    "Layout",
    "Resampling",
    "build",
    "detect_layout",
    "file_sha256",
    "files_sha256",
    "read_state_dict",
    "read_weights",
    "refuse_names",
    "resize_notes",
    "resize_position_embedding",
    "to_huggingface",
]
