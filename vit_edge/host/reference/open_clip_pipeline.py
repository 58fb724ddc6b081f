"""A CLIP's image tower run by open_clip: its model and its own transform."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vit_edge.errors import SourceError
from vit_edge.host.reference.types import Answer, Pipeline, answer_of
from vit_edge.host.sources.open_clip_library import open_clip_here, open_clips_own, text_embeddings
from vit_edge.host.sources.types import OwnPipeline
from vit_edge.spec import CropRule, OutputKind, PreprocessSpec, ResizeMode


class OpenClipPipeline(Pipeline):
    """`open_clip.create_model_and_transforms` of the folder or file, and `encode_image`, normalised.

    Where classes are named, the products with what `encode_text` makes of them, as its README has it.

    Args:
        own: the folder, or the file with open_clip's name of its model, and what is stated in place of its
            word.
        spec: the recipe that this came to.
        kind: what the numbers mean.

    Raises:
        SourceError: open_clip is not installed, cannot load the model, or cannot do what is stated.
    """

    def __init__(self, own: OwnPipeline, spec: PreprocessSpec, kind: OutputKind) -> None:
        _refuse_stated(spec)
        squashes = spec.resize_mode is ResizeMode.EXACT
        self._model, self._transform = open_clips_own(
            own,
            None if own.stated.image_size is None else (spec.height, spec.width),
            image_mean=spec.mean,
            image_std=spec.std,
            image_interpolation=spec.interpolation.value,
            image_resize_mode="squash" if squashes else "shortest",
        )
        self._prompts, self._kind = own.prompts, kind
        self._texts = None if own.prompts is None else text_embeddings(self._model, own, own.prompts)
        named = "" if own.prompts is None else "zero-shot, "
        stated = ", with the stated options" if own.stated.says_something else ""
        self.name = (
            f"open_clip {open_clip_here().__version__} ({named}{own.arch or own.path.name}, "
            f"torch {torch.__version__}{stated})"
        )

    def answer(self, path: Path) -> Answer:
        """The vector, as the numbers of an answer without any class; or the class with all scores."""
        if self._prompts is None:
            return self.vector(path)
        values = self.numbers(path)
        label = self._prompts.labels[int(values.argmax())]
        return dataclasses.replace(answer_of(values, self._kind), label=label)

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As opened by Pillow, which leaves the EXIF orientation alone, converted to RGB."""
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the transform makes them of the image as opened: RGB only after the resize and the crop."""
        with Image.open(path) as image:
            return np.asarray(self._transform(image), np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The vector of length 1, (D,); or the logits of the named classes, (C,)."""
        with torch.inference_mode():
            made = self._model.encode_image(torch.from_numpy(pixel_values[None].copy()), normalize=True)
            if self._texts is not None:
                made = self._model.logit_scale.exp() * made @ self._texts.T
                bias = getattr(self._model, "logit_bias", None)
                made = made if bias is None else made + bias
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
