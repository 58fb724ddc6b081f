"""What a library's model gives for an image that its own transform prepared."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vit_edge.host.reference.types import Answer, Pipeline, answer_of
from vit_edge.spec import OutputKind


class TransformedPipeline(Pipeline):
    """A classifier as timm and torchvision have it: a transform of Pillow's image, and a torch module.

    Args:
        name: of the library and the model, with their versions.
        model: from (1, 3, H, W) float32 to logits (1, N), in evaluation mode.
        transform: from an RGB image to (3, H, W).
        kind: what the numbers mean.
    """

    def __init__(self, name: str, model: Any, transform: Any, kind: OutputKind) -> None:
        self.name, self._model, self._transform, self._kind = name, model, transform, kind

    def answer(self, path: Path) -> Answer:
        """The class and all probabilities, by softmax unless another meaning is stated."""
        return answer_of(self.numbers(path), self._kind)

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As both libraries' data sets load it, which leaves the EXIF orientation alone."""
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the transform makes them."""
        return np.asarray(self._transform(Image.fromarray(self.decoded(path))), np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As the model gives them."""
        with torch.inference_mode():
            return np.asarray(self._model(torch.from_numpy(pixel_values[None].copy()))[0], np.float32)
