"""A CLIP's image tower run by open_clip: its model and its own transform."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vit_edge.errors import SourceError
from vit_edge.host.reference.types import Answer, Pipeline
from vit_edge.host.sources.quiet import first_line
from vit_edge.host.sources.types import OwnPipeline
from vit_edge.spec import CropRule, PreprocessSpec, ResizeMode


class OpenClipPipeline(Pipeline):
    """`open_clip.create_model_and_transforms` of the folder or file, and `encode_image`, normalised.

    Args:
        own: the folder, or the file with open_clip's name of its model, and what is stated in place of its
            word.
        spec: the recipe that this came to.

    Raises:
        SourceError: open_clip is not installed, cannot load the model, or cannot do what is stated.
    """

    def __init__(self, own: OwnPipeline, spec: PreprocessSpec) -> None:
        _refuse_stated(spec)
        try:
            import open_clip
        # A torchvision that does not fit the torch here fails with another exception.
        except Exception as error:
            raise SourceError(
                f"open_clip cannot be imported ({type(error).__name__}): pip install open_clip_torch (with a "
                "torchvision that fits this torch)"
            ) from None
        squashes = spec.resize_mode is ResizeMode.EXACT
        resized = None if own.stated.image_size is None else (spec.height, spec.width)
        try:
            model, _, self._transform = open_clip.create_model_and_transforms(
                own.arch or f"local-dir:{own.path}",
                pretrained=str(own.path) if own.arch else None,
                image_mean=spec.mean,
                image_std=spec.std,
                image_interpolation=spec.interpolation.value,
                image_resize_mode="squash" if squashes else "shortest",
                force_image_size=resized,
            )
        except Exception as error:  # it raises whatever a file leads it to
            raise SourceError(f"open_clip cannot load {own.path.name} ({first_line(error)})") from error
        self._model: Any = model.eval().float()
        self.name = (
            f"open_clip {open_clip.__version__} ({own.arch or own.path.name}, torch {torch.__version__}"
            f"{', with the stated options' if own.stated.says_something else ''})"
        )

    def answer(self, path: Path) -> Answer:
        """The vector, as the numbers of an answer without any class."""
        try:
            vector = self.logits(self.pixel_values(path))
        except Exception as error:
            raise SourceError(f"{self.name} fails on {path.name} ({first_line(error)})") from error
        return Answer(None, None, None, vector.astype(np.float64))

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As opened by Pillow, which leaves the EXIF orientation alone, converted to RGB."""
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the transform makes them of the image as opened: RGB only after the resize and the crop."""
        with Image.open(path) as image:
            return np.asarray(self._transform(image), np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The vector of length 1, (D,)."""
        with torch.inference_mode():
            made = self._model.encode_image(torch.from_numpy(pixel_values[None].copy()), normalize=True)
        return np.asarray(made[0].numpy(), np.float32)


def _refuse_stated(spec: PreprocessSpec) -> None:
    """What open_clip's transform has no word for."""
    mend = "name what answers for it with --reference"
    if spec.crop is not CropRule.TORCHVISION:
        raise SourceError(f"open_clip's transform does not halve an odd margin as stated: {mend}")
    known = spec.resize_mode in (ResizeMode.EXACT, ResizeMode.SHORT_SIDE)
    if not known or spec.resize != (spec.height, spec.width):
        raise SourceError(
            f"open_clip's transform has no resize {spec.resize_mode.value} to {spec.resize[0]}x"
            f"{spec.resize[1]} for {spec.height}x{spec.width} pixels: {mend}"
        )
    if spec.interpolation.value not in ("bicubic", "bilinear"):
        raise SourceError(f"open_clip's transform has no {spec.interpolation.value} resize: {mend}")
