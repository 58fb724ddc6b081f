"""A folder of an image tower run by transformers: its own processor and model, and the vector of an image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vit_edge.host.reference.processor_pipeline import ProcessorPipeline
from vit_edge.host.reference.transformers_pipeline import LOCAL, image_processor
from vit_edge.host.reference.types import Answer
from vit_edge.host.sources.quiet import installed_transformers, loading, quiet_transformers
from vit_edge.host.sources.towers import TOWERS, Vector
from vit_edge.host.sources.transformers_model import resampling


class EmbeddingPipeline(ProcessorPipeline):
    """Transformers' model as it loads it itself, on the CPU in float32, with the processor on Pillow images.

    Args:
        folder: what `save_pretrained` wrote.
        kind: a key of TOWERS.
        processor: an image processor's config in place of the folder's.
        size: pixels (height, width) that the model is to see.
        backend: what the processor works by, "pil" or "torchvision".

    Raises:
        SourceError: transformers is not installed, or cannot load the folder.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        processor: Mapping[str, Any] | None,
        size: tuple[int, int],
        *,
        backend: str = "pil",
    ) -> None:
        transformers: Any = installed_transformers()
        with quiet_transformers(), loading("transformers", folder.name):
            loaded = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32, **LOCAL)
            self._model: Any = loaded.eval()
            self._processor = image_processor(folder, processor, backend)
        self._tower = TOWERS[kind]
        places = any(hasattr(each, "interpolate_pos_encoding") for each in self._model.modules())
        self._more = resampling(self._model.config, size) if places else {}
        self._load = transformers.image_utils.load_image
        self.name = (
            f"transformers {transformers.__version__} ({type(self._processor).__name__}, {kind}, "
            f"torch {torch.__version__}{', with the stated options' if processor is not None else ''})"
        )

    def answer(self, path: Path) -> Answer:
        """The vector, as the numbers of an answer without any class."""
        return self.vector(path)

    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The vector (D,)."""
        with torch.inference_mode():
            vector = self._vector(torch.from_numpy(pixel_values[None].copy()))
            if self._tower.unit:
                vector = vector / vector.norm(dim=-1, keepdim=True)  # as CLIPModel and SiglipModel do
        return np.asarray(vector[0].numpy(), np.float32)

    def _vector(self, images: Tensor) -> Tensor:
        """(1, D), before it is brought to any length."""
        asked = self._model.get_image_features if self._tower.texts else self._model
        made = asked(pixel_values=images, **self._more)
        vector: Tensor
        if self._tower.vector is Vector.CLS:
            vector = made.last_hidden_state[:, 0]
        elif self._tower.vector is Vector.PROJECTED and not self._tower.texts:
            vector = made.image_embeds
        else:
            vector = made.pooler_output
        return vector
