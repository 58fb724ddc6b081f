"""A Hugging Face folder run by transformers: its image-classification pipeline, processor and model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vit_edge.errors import SourceError
from vit_edge.host.reference.types import Answer, Pipeline

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class TransformersPipeline(Pipeline):
    """`transformers.ImageClassificationPipeline` on the CPU in float32, with the Pillow-backed processor.

    Args:
        folder: what `save_pretrained` wrote.
        names_classes: whether its own labels are those of the bundle; if not, classes are told by index.

    Raises:
        SourceError: transformers is not installed, or cannot load the folder.
    """

    def __init__(self, folder: Path, names_classes: bool = True) -> None:
        try:
            import transformers
        except ImportError:
            raise SourceError("transformers is not installed") from None
        bar = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            model: Any = transformers.AutoModelForImageClassification.from_pretrained(
                folder, dtype=torch.float32, **_LOCAL
            )
            processor: Any = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **_LOCAL)
            self._pipeline: Any = transformers.ImageClassificationPipeline(
                model=model.eval(), image_processor=processor, device="cpu"
            )
        # It raises whatever a file leads it to.
        except Exception as error:
            raise SourceError(f"transformers cannot load {folder.name} ({type(error).__name__})") from error
        finally:
            if bar:
                transformers.utils.logging.enable_progress_bar()
        self._names_classes = names_classes
        self._load: Any = transformers.image_utils.load_image
        self.name = (
            f"transformers {transformers.__version__} "
            f"({type(processor).__name__}, {type(model).__name__}, torch {torch.__version__})"
        )

    def answer(self, path: Path) -> Answer:
        """The class and all probabilities, as the pipeline's own post-processing gives them."""
        try:
            outputs = self._pipeline.forward(self._pipeline.preprocess(str(path)))
            logits = np.asarray(outputs["logits"][0], np.float32)
            ranked: list[Mapping[str, Any]] = self._pipeline.postprocess(outputs, top_k=len(logits))
        except Exception as error:
            raise SourceError(f"{self.name} fails on {path.name} ({_first_line(error)})") from error
        order = np.argsort(-logits, kind="stable")  # scores rise with logits
        probabilities = np.empty(len(logits), np.float64)
        probabilities[order] = [each["score"] for each in ranked]
        label = str(ranked[0]["label"]) if self._names_classes else None
        return Answer(label, int(order[0]), float(ranked[0]["score"]), probabilities)

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As the pipeline loads it: upright, converted to RGB."""
        return np.asarray(self._load(str(path)))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the image processor makes them."""
        return np.asarray(self._pipeline.preprocess(str(path))["pixel_values"][0], np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As the model gives them."""
        outputs = self._pipeline.forward({"pixel_values": torch.from_numpy(pixel_values[None].copy())})
        return np.asarray(outputs["logits"][0], np.float32)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
