"""Weights run by timm: its model and its evaluation transform."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vit_edge.errors import SourceError
from vit_edge.host.reference.types import Answer, Pipeline
from vit_edge.host.sources.timm_data import own_config, tags_of


class TimmPipeline(Pipeline):
    """`timm.create_model` with the file's weights, and `timm.data.create_transform` for its data config.

    Args:
        name: of the architecture, with or without a tag.
        file: the weights.
        classes: that the head has.

    Raises:
        SourceError: timm is not installed, or cannot load the file.
    """

    def __init__(self, name: str, file: Path, classes: int) -> None:
        try:
            import timm
            from timm.data import create_transform, resolve_data_config
            from timm.models import get_pretrained_cfg, load_checkpoint
        # Its torchvision may not fit the torch here, which is another exception.
        except Exception as error:
            raise SourceError(f"timm cannot be imported ({type(error).__name__})") from None
        base, _, tag = name.partition(".")
        own = own_config(file, base)
        try:
            self._model: Any = timm.create_model(base, pretrained=False, num_classes=classes).eval()
            load_checkpoint(self._model, str(file))
            config = own or get_pretrained_cfg(f"{base}.{tag or tags_of(base)[0]}").to_dict()
            self._transform: Any = create_transform(**resolve_data_config({}, pretrained_cfg=config))
        except Exception as error:
            raise SourceError(f"timm cannot load {file.name} as {name} ({type(error).__name__})") from error
        self.name = f"timm {timm.__version__} ({name}, torch {torch.__version__})"

    def answer(self, path: Path) -> Answer:
        """The class and the softmax of all logits."""
        try:
            logits = self.logits(self.pixel_values(path)).astype(np.float64)
        except Exception as error:
            raise SourceError(
                f"{self.name} fails on {path.name} ({type(error).__name__}: {error})"
            ) from error
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = int(scores.argmax())
        return Answer(None, best, float(scores[best]), scores)

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As timm's data sets load it, which leaves the EXIF orientation alone."""
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the evaluation transform makes them."""
        return np.asarray(self._transform(Image.fromarray(self.decoded(path))), np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As the model gives them."""
        with torch.inference_mode():
            return np.asarray(self._model(torch.from_numpy(pixel_values[None].copy()))[0], np.float32)
