"""What references share that see an image through one of transformers' image processors."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_edge.host.reference.types import Pipeline


class ProcessorPipeline(Pipeline):
    """Decodes as transformers does and prepares by its processor; what answers is for the classes below."""

    _processor: Any
    _load: Any  # transformers.image_utils.load_image

    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """As transformers loads it: upright, converted to RGB."""
        return np.asarray(self._load(str(path)))

    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """As the image processor makes them."""
        made = self._processor(images=self._load(str(path)), return_tensors="np")
        return np.asarray(made["pixel_values"][0], np.float32)
