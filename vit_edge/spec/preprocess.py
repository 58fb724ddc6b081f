"""The recipe from a decoded image to the model's input."""

import dataclasses
import enum
from typing import Annotated, Any, Self

from vit_edge import plain
from vit_edge.fields import settle_members
from vit_edge.plain import Mark

# Of values in [0, 1]; what lies beyond is a mistake, and an absurd one may overflow or lose every digit.
_LEAST_DEVIATION = 1e-6
_MOST_STATISTIC = 1000


class Interpolation(enum.Enum):
    """Resampling filter of the resize; the value is Pillow's name for it in lower case."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class ResizeMode(enum.Enum):
    """How an image of any size becomes one from which the crop is taken."""

    NONE = "none"  # crop only
    SHORT_SIDE = "short_side"  # keep the aspect ratio, short side to resize[0]
    EXACT = "exact"  # to exactly (height, width), aspect ratio given up
    COVER = "cover"  # keep the aspect ratio, as small as still covers (height, width)


class CropRule(enum.Enum):
    """Where a centre crop lies if the margin is odd, and where the image lies in a crop that is larger."""

    TORCHVISION = "torchvision"  # half the margin, half to even; the smaller half of a padding comes first
    TRANSFORMERS = "transformers"  # Pillow-backed: half the margin, down; the larger half comes first
    TRANSFORMERS_FAST = "transformers_fast"  # torchvision-backed: half the margin, down; the smaller first


@dataclasses.dataclass(frozen=True)
class PreprocessSpec:
    """The resolved, numeric recipe from a decoded RGB image to the model's input.

    Resize (on uint8), centre crop to (height, width), then `(pixel / 255 - mean) / std` per RGB channel.
    A crop larger than the resized image pads with black, as Hugging Face and torchvision do. A written recipe
    that names no crop rule means torchvision's, as it did before there was a choice.
    """

    height: int
    """Pixels, what the model sees."""
    width: int
    resize_mode: ResizeMode
    resize: tuple[int, int]
    """Pixels (height, width); for SHORT_SIDE both are the length of the short side."""
    interpolation: Interpolation
    mean: tuple[float, float, float]
    """RGB, of values in [0, 1]."""
    std: tuple[float, float, float]
    crop: Annotated[CropRule, Mark.ABSENT] = CropRule.TORCHVISION

    def __post_init__(self) -> None:
        """Refuse sizes and statistics that no image can have."""
        settle_members(self)
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"preprocess {name} must be 1 to 4096 pixels, got {getattr(self, name)}")
        if not all(1 <= side <= 8192 for side in self.resize):
            raise ValueError(f"preprocess resize must be 1 to 8192 pixels, got {self.resize}")
        if self.resize_mode is ResizeMode.SHORT_SIDE and self.resize[0] != self.resize[1]:
            raise ValueError(f"preprocess resize must be (side, side) for short_side, got {self.resize}")
        if not all(_LEAST_DEVIATION <= deviation <= _MOST_STATISTIC for deviation in self.std):
            raise ValueError(
                f"preprocess std must be positive, from {_LEAST_DEVIATION} to {_MOST_STATISTIC}, "
                f"got {self.std}"
            )
        if not all(abs(mean) <= _MOST_STATISTIC for mean in self.mean):
            raise ValueError(
                f"preprocess mean must be from {-_MOST_STATISTIC} to {_MOST_STATISTIC}, got {self.mean}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the form kept in the manifest and in an ONNX file's metadata_props."""
        raw: dict[str, Any] = plain.of(self)
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: an unknown or missing key, or a value of the wrong type; the message names the key.
        """
        return plain.read(cls, raw, "preprocess")
