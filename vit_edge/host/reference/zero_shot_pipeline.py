"""A folder of CLIP or SigLIP run by transformers' zero-shot pipeline on the texts of the classes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vit_edge.host.reference.transformers_pipeline import LOCAL, image_processor
from vit_edge.host.reference.types import Answer, Pipeline
from vit_edge.host.sources.quiet import installed_transformers, loading, quiet_transformers
from vit_edge.host.sources.transformers_model import resampling
from vit_edge.host.sources.types import Prompts


class ZeroShotPipeline(Pipeline):
    """`transformers.ZeroShotImageClassificationPipeline` on the CPU in float32, processor on Pillow images.

    Its text tower answers once: it is given the same texts for every image.

    Args:
        folder: what `save_pretrained` wrote.
        prompts: the classes.
        processor: an image processor's config in place of the folder's.
        size: pixels (height, width) that the model is to see.

    Raises:
        SourceError: transformers is not installed, or cannot load the folder.
    """

    def __init__(
        self,
        folder: Path,
        prompts: Prompts,
        processor: Mapping[str, Any] | None,
        size: tuple[int, int],
    ) -> None:
        transformers: Any = installed_transformers()
        with quiet_transformers(), loading("transformers", folder.name):
            model = transformers.AutoModelForZeroShotImageClassification.from_pretrained(
                folder, dtype=torch.float32, **LOCAL
            ).eval()
            made = image_processor(folder, processor)
            self._pipeline: Any = transformers.ZeroShotImageClassificationPipeline(
                model=model,
                tokenizer=transformers.AutoTokenizer.from_pretrained(folder, **LOCAL),
                image_processor=made,
                device="cpu",
            )
        _answer_once(model.text_model)
        self._prompts = prompts
        self._more = resampling(model.config, size)
        self._load: Any = transformers.image_utils.load_image
        self.name = (
            f"transformers {transformers.__version__} (zero-shot, {type(made).__name__}, "
            f"{type(model).__name__}, torch {torch.__version__}"
            f"{', with the stated options' if processor is not None else ''})"
        )

    def answer(self, path: Path) -> Answer:
        """The class and all probabilities, as the pipeline's own post-processing gives them."""
        labels = list(self._prompts.labels)
        with self.running(path):
            outputs = self._pipeline.forward(self._inputs(path))
            ranked: list[Mapping[str, Any]] = self._pipeline.postprocess(outputs)
        probabilities = np.zeros(len(labels))
        for each in ranked:
            probabilities[labels.index(each["label"])] = each["score"]
        best = ranked[0]
        return Answer(best["label"], labels.index(best["label"]), float(best["score"]), probabilities)

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As the pipeline loads it: upright, converted to RGB."""
        return np.asarray(self._load(str(path)))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the image processor makes them."""
        return np.asarray(self._inputs(path)["pixel_values"][0], np.float32)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As the model gives them."""
        inputs = self._made(Image.new("RGB", (8, 8)))
        inputs["pixel_values"] = torch.from_numpy(pixel_values[None].copy())
        return np.asarray(self._pipeline.forward(inputs)["logits"][0], np.float32)

    def _inputs(self, path: Path) -> dict[str, Any]:
        return self._made(str(path))

    def _made(self, image: object) -> dict[str, Any]:
        given = self._pipeline.preprocess(
            image,
            candidate_labels=list(self._prompts.labels),
            hypothesis_template=self._prompts.template,
        )
        return dict(given) | self._more


def _answer_once(tower: Any) -> None:
    """Keep the first answer of a text tower for all later calls."""
    answer = tower.forward
    kept: list[Any] = []

    def once(*given: Any, **named: Any) -> Any:
        if not kept:
            kept.append(answer(*given, **named))
        return dataclasses.replace(kept[0])  # the caller writes into it

    vars(tower)["forward"] = once
