"""Colours: from whatever mode an image has to 8-bit RGB.

They are those of Pillow's `convert("RGB")`, which is what transformers and torchvision pipelines do: alpha
and palette transparency are dropped, not composited; greyscale is repeated; CMYK by Pillow's formula. One
thing differs: 16-bit greyscale is scaled to 8 bits (its high byte, as Pillow does for 16-bit RGB) where
`convert` clips whatever exceeds 255 to white. Files keep 12-bit and other narrower data in 16 bits as well,
which would turn nearly black; a picture that uses less than a quarter of the range is refused, as its range
is unknown.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.errors import ImageError

_LEAST_LARGEST = 1 << 14  # of a picture in 16 bits of grey: data of 14 bits stay below


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in mode RGB.

    Raises:
        ImageError: with a clause about it; its range of values is unknown.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise ImageError(f"has mode {image.mode}, whose range is unknown; scale it to 8 bits first")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # convert drops it too, but with a warning
    return image.convert("RGB")


def _from_16_bits(values: npt.NDArray[np.uint16]) -> Image.Image:
    """The high bytes, where the values use 16 bits; black is black whatever the range."""
    largest = int(values.max())
    if 0 < largest < _LEAST_LARGEST:
        raise ImageError(
            f"holds 16-bit grey values of at most {largest}, so {largest.bit_length()}-bit data or a nearly "
            "black picture: which, the file does not say; scale it to 8 bits first"
        )
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
