"""A folder whose processor resizes numbers by torchvision, where the runtime resizes bytes by Pillow: DINOv3.

No two resizes that round at other places agree to the bit, so the two halves of the way are proven apart.
The processor's own pixels must lie within a grey level of those that the runtime makes of the same file; the
model, given the runtime's, must give the runtime's vector. What the rounding itself moves the vector by is
measured beside that, with the processor's numbers as they are, and said.
"""

from pathlib import Path

import numpy as np

from vit_edge.errors import SourceError
from vit_edge.host.reference.embedding_pipeline import EmbeddingPipeline
from vit_edge.host.reference.stages import PIXELS
from vit_edge.host.reference.types import Answer
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import PreprocessSpec

_LEVELS = 255


class NumbersPipeline(EmbeddingPipeline):
    """Transformers' own model and processor, the latter on torchvision.

    Args:
        folder: what `save_pretrained` wrote.
        kind: a key of TOWERS.
        spec: how the runtime prepares images.

    Raises:
        SourceError: transformers or torchvision is not installed, or cannot load the folder.
    """

    def __init__(self, folder: Path, kind: str, spec: PreprocessSpec) -> None:
        try:
            import torchvision
        # One that does not fit the torch here fails with another exception.
        except Exception as error:
            raise SourceError(
                "transformers resizes images of DINOv3 as numbers, by torchvision, which cannot be imported "
                f"({type(error).__name__}): install one that fits this torch, name what answers for it with "
                "--reference, or state the preprocessing, which Pillow then does for both"
            ) from None
        super().__init__(folder, kind, None, (spec.height, spec.width), backend="torchvision")
        self._spec, self._levels, self._moved = spec, 0.0, 0.0
        self._named = f"{self.name[:-1]}, torchvision {torchvision.__version__})"
        self.name = self._named

    def answer(self, path: Path) -> Answer:
        """The model's vector of the runtime's pixels, where they are the processor's but for its rounding."""
        with self.running(path):
            theirs = self.pixel_values(path)
            ours = normalize(load_pixels(path, self._spec)[None], self._spec)[0]
            exact = self.logits(theirs)
            apart = np.abs(ours - theirs) if ours.shape == theirs.shape else np.full((3, 1, 1), np.inf)
            levels = float((apart * np.array(self._spec.std, np.float32).reshape(3, 1, 1)).max())
            vector = self.logits(ours) if levels <= PIXELS else exact
        if levels <= PIXELS:
            moved = float(np.linalg.norm(vector - exact) / np.linalg.norm(exact))
            self._levels, self._moved = max(self._levels, levels), max(self._moved, moved)
            self.name = (
                f"{self._named} on the runtime's bytes, which lie within {self._levels * _LEVELS:.2f} grey "
                f"levels of the numbers that its processor resizes (with those numbers its vectors are up to "
                f"{100 * self._moved:.2g} % of their length away, which is not proven to be nothing),"
            )
        return Answer(None, None, None, vector.astype(np.float64))
