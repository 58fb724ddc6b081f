"""The families of image classifiers that transformers' own module is taken of, and what sets each apart.

Whether a family's graph becomes canonical is decided by the rewrite rules alone; what is said here is for the
refusal, where it does not.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of vision transformer, by the `model_type` of its config.json."""

    name: str  # as its paper calls it
    apart: str = ""  # what it has that no rewrite rule knows; empty where that is nothing
    backbone: str = ""  # why no classifier of it can be read


FAMILIES: Mapping[str, Family] = {
    "aimv2": Family("AIMv2", backbone="transformers has no classifier of it, only Aimv2Model"),
    "aimv2_vision_model": Family("AIMv2", backbone="it is an image tower without a classifier"),
    "beit": Family("BEiT"),
    "clip": Family("CLIP"),
    "data2vec-vision": Family("Data2Vec"),
    "dinov2": Family("DINOv2"),
    "dinov2_with_registers": Family("DINOv2"),
    "hiera": Family("Hiera", "attention in windows, and queries that are pooled between stages"),
    "ijepa": Family("I-JEPA"),
    "metaclip_2": Family("MetaCLIP 2"),
    "siglip": Family("SigLIP"),
    "swin": Family("Swin"),
    "swinv2": Family("Swin V2"),
    "vit_msn": Family("MSN"),
    "dinov3_vit": Family("DINOv3", backbone="transformers has no classifier of it, only DINOv3ViTModel"),
    "siglip2": Family("SigLIP 2", backbone="its NaFlex form takes patches of any aspect ratio, not images"),
    "vit_mae": Family(
        "MAE", backbone="it reconstructs images; save its encoder as ViTForImageClassification"
    ),
    "metaclip_2_vision_model": Family("MetaCLIP 2", backbone="it is an image tower without a classifier"),
    "clip_vision_model": Family("CLIP", backbone="it is an image tower without a classifier"),
    "siglip_vision_model": Family("SigLIP", backbone="it is an image tower without a classifier"),
    "siglip2_vision_model": Family("SigLIP 2", backbone="it is an image tower without a classifier"),
}

# By model type, transformers' class of an image and a text tower.
TOWERS: Mapping[str, str] = {"clip": "CLIPModel", "metaclip_2": "MetaClip2Model", "siglip": "SiglipModel"}


def known_families() -> str:
    """All that a folder may be of, for messages."""
    names = dict.fromkeys(family.name for family in FAMILIES.values() if not family.backbone)
    return ", ".join(("ViT", "DeiT", *names))
