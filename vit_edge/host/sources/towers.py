"""Image models without a classifier: backbones and image towers of transformers, and the vector each gives.

What stands for an image is what the family's authors compare images by: the class token behind the last
LayerNormalization (Caron et al. 2021; Oquab et al. 2024; Siméoni et al. 2025), the projection into the space
that images and texts share (Radford et al. 2021), or the model's own attention pooling (Zhai et al. 2023).
Vectors that are compared with those of texts have length 1, as `CLIPModel` and `SiglipModel` make them.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vit_edge.host.unit import unit
from vit_edge.spec import OutputKind


class Vector(enum.Enum):
    """Which of a model's numbers stand for the image; the value is how a note says it."""

    CLS = "the class token behind the last LayerNormalization"
    POOLED = "what the model's own pooling makes of its tokens (pooler_output of transformers)"
    PROJECTED = "the projection into the space of images and texts (image_embeds of transformers)"


@dataclasses.dataclass(frozen=True)
class Tower:
    """A class of transformers that gives no classes."""

    vector: Vector
    unit: bool = False  # whether it is brought to length 1
    texts: bool = False  # whether a text tower is beside it

    @property
    def output(self) -> OutputKind:
        """What its numbers are."""
        return OutputKind.UNIT_EMBEDDING if self.unit else OutputKind.EMBEDDING

    @property
    def words(self) -> str:
        """What the vector is, for a note."""
        return f"its embedding is {self.vector.value}{', brought to length 1' if self.unit else ''}"


_CLS, _POOLED = Tower(Vector.CLS), Tower(Vector.POOLED)
_SHARED = Tower(Vector.PROJECTED, unit=True)
TOWERS: Mapping[str, Tower] = {
    "Aimv2Model": dataclasses.replace(_SHARED, texts=True),
    "Aimv2VisionModel": _POOLED,
    "BeitModel": _POOLED,
    "CLIPModel": dataclasses.replace(_SHARED, texts=True),
    "CLIPVisionModel": _POOLED,
    "CLIPVisionModelWithProjection": _SHARED,
    "DINOv3ViTModel": _CLS,
    "DeiTModel": _CLS,
    "Dinov2Model": _CLS,
    "Dinov2WithRegistersModel": _CLS,
    "MetaClip2Model": dataclasses.replace(_SHARED, texts=True),
    "MetaClip2VisionModelWithProjection": _SHARED,
    "SiglipModel": Tower(Vector.POOLED, unit=True, texts=True),
    "SiglipVisionModel": Tower(Vector.POOLED, unit=True),
    "SwinModel": _POOLED,
    "ViTMSNModel": _CLS,
    "ViTModel": _CLS,
}


def tower_of(raw: Mapping[str, Any]) -> str | None:
    """The class that a config.json names, where it is a tower; None of anything else."""
    named = raw.get("architectures")
    if isinstance(named, list) and len(named) == 1 and named[0] in list(TOWERS):
        return str(named[0])
    return None


class Embedded(nn.Module):
    """An image tower as one function: pixel_values (N, 3, H, W) to embeddings (N, D).

    Args:
        model: of transformers; of one with a text tower, only the image tower is kept.
        tower: what it is.
    """

    def __init__(self, model: Any, tower: Tower) -> None:
        super().__init__()
        self.config, self.tower = model.config, tower
        self._resamples = any(hasattr(each, "interpolate_pos_encoding") for each in model.modules())
        self.vision = model.vision_model if tower.texts else model
        self.projection = getattr(model, "visual_projection", None) if tower.texts else None

    def forward(self, pixel_values: Tensor, **more: bool) -> Tensor:
        """Embeddings (N, D)."""
        # rotary positions are those of any size by themselves
        made = self.vision(pixel_values=pixel_values, **(more if self._resamples else {}))
        vector: Tensor | None
        if self.tower.vector is Vector.CLS:
            vector = made.last_hidden_state[:, 0]
        elif self.tower.vector is Vector.PROJECTED and self.projection is None:
            vector = made.image_embeds
        else:
            vector = made.pooler_output if self.projection is None else self.projection(made.pooler_output)
        if vector is None:
            raise ValueError("it has no pooling of its own, and so no vector of the whole image")
        return unit(vector) if self.tower.unit else vector
