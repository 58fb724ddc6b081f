"""A Hugging Face folder run by transformers: its image-classification pipeline, processor and model."""

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vit_edge.host.reference.types import Answer, Pipeline
from vit_edge.host.sources.peft_folder import adapted
from vit_edge.host.sources.quiet import installed_transformers, loading, quiet_transformers
from vit_edge.host.sources.transformers_model import resampling
from vit_edge.spec import OutputKind

PROCESSOR = "preprocessor_config.json"
LOCAL = {"local_files_only": True, "trust_remote_code": False}
_FUNCTIONS = {
    OutputKind.SINGLE_LABEL: "softmax",
    OutputKind.MULTI_LABEL: "sigmoid",
    OutputKind.BINARY: "sigmoid",
    OutputKind.REGRESSION: "none",
}


class TransformersPipeline(Pipeline):
    """`transformers.ImageClassificationPipeline` on the CPU in float32, with the Pillow-backed processor.

    Args:
        folder: what `save_pretrained` wrote.
        names_classes: whether its own labels are those of the bundle; if not, classes are told by index.
        processor: a processor's config in place of the folder's.
        kind: what its numbers mean, in place of what its config says.
        adapter: the folder of an adapter that `peft` puts on the model.
        size: pixels (height, width) that the model is to see; None: its own.

    Raises:
        SourceError: transformers is not installed, or cannot load the folder.
    """

    def __init__(
        self,
        folder: Path,
        names_classes: bool = True,
        *,
        processor: Mapping[str, Any] | None = None,
        kind: OutputKind | None = None,
        adapter: Path | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        transformers: Any = installed_transformers()
        with quiet_transformers(), loading("transformers", (adapter or folder).name):
            model = _model(transformers, folder, adapter)
            made = image_processor(_with_processor(folder, adapter), processor)
            self._pipeline: Any = transformers.ImageClassificationPipeline(
                model=model.eval(), image_processor=made, device="cpu"
            )
        self._names_classes = names_classes
        self._function = {} if kind is None else {"function_to_apply": _FUNCTIONS[kind]}
        self._more = resampling(model.config, size)
        self._load: Any = transformers.image_utils.load_image
        self.name = (
            f"transformers {transformers.__version__} "
            f"({type(made).__name__}, {type(model).__name__}, torch {torch.__version__}"
            f"{'' if adapter is None else ', its adapter by peft'}"
            f"{', with the stated options' if processor is not None or kind is not None else ''})"
        )

    def answer(self, path: Path) -> Answer:
        """The class and all probabilities, as the pipeline's own post-processing gives them."""
        with self.running(path):
            inputs = dict(self._pipeline.preprocess(str(path))) | self._more
            outputs = self._pipeline.forward(inputs)
            logits = np.asarray(outputs["logits"][0], np.float32)
            ranked: list[Mapping[str, Any]] = self._pipeline.postprocess(
                outputs, top_k=len(logits), **self._function
            )
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
        given = {"pixel_values": torch.from_numpy(pixel_values[None].copy())}
        outputs = self._pipeline.forward(given | self._more)
        return np.asarray(outputs["logits"][0], np.float32)


def image_processor(folder: Path, config: Mapping[str, Any] | None = None, backend: str = "pil") -> Any:
    """Transformers' processor by Pillow or torchvision, of a folder or of a config in its place."""
    import transformers

    if config is None:
        return transformers.AutoImageProcessor.from_pretrained(folder, backend=backend, **LOCAL)
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as scratch:
        (Path(scratch) / PROCESSOR).write_text(json.dumps(config))
        return transformers.AutoImageProcessor.from_pretrained(scratch, backend=backend, **LOCAL)


def _model(transformers: Any, folder: Path, adapter: Path | None) -> Any:
    if adapter is not None:
        with contextlib.redirect_stderr(io.StringIO()):  # notes on the new head
            return adapted(folder, adapter).get_base_model()  # with the adapter in it, not merged
    return transformers.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32, **LOCAL)


def _with_processor(folder: Path, adapter: Path | None) -> Path:
    """The folder whose image processor holds: an adapter's own, else its base model's."""
    return adapter if adapter is not None and (adapter / PROCESSOR).is_file() else folder
