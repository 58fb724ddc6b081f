"""What errors of outputs are measured by, so that the noise of any model is a number that goals can speak of.

An output's error counts by its power as a share of the output's own. Not so the boxes of a detector: their
numbers say where on the image they lie, so that an error of a few percent of them is a fifth of a small box,
and most boxes of a head are of nothing. A box's error counts in shares of its own width and height, by how
sure the float model is that it is of something, and a detector's boxes may err by BOX_SHARE of what other
outputs may: average precision asks for overlaps of up to 0.95, which a few percent of the size decide.
"""

from collections.abc import Sequence

import numpy as np

from vit_edge.arrays import Float32
from vit_edge.runtime.model.maps import Map, detection_outputs

BOX_SHARE = 0.2
LEAST_SIZE = 0.01  # of a box, as a share of the image
SILENCE = 1e-30  # the least power that an output is taken to have


def yardsticks(names: Sequence[str], reference: Sequence[Float32]) -> list[Float32]:
    """What the errors of each output are multiplied by; the squares of all of them add up to the noise.

    Args:
        names: of the outputs, where they are known; empty: none of them is a box.
        reference: each output of the float model for N images, (N, ...).

    Returns:
        Of each output an array that is broadcast to its shape, (N, ...) or (1, ...).
    """
    maps = [Map(name, output.shape[1:]) for name, output in zip(names, reference, strict=False)]
    detects = detection_outputs(maps)
    made = []
    for index, output in enumerate(reference):
        power = max(float(np.square(output, dtype=np.float64).sum()), SILENCE)
        weights = np.full((1,) * output.ndim, power**-0.5, np.float32)
        if detects is not None and names[index] == detects.boxes:
            weights = _of_boxes(reference[list(names).index(detects.logits)], output)
        made.append(weights / np.float32(np.sqrt(len(reference))))
    return made


def _of_boxes(logits: Float32, boxes: Float32) -> Float32:
    """(N, Q, 4): the mean over coordinates, and over boxes by how sure they are."""
    exponents = np.exp((logits - logits.max(axis=-1, keepdims=True)).astype(np.float64))
    sure = (exponents / exponents.sum(axis=-1, keepdims=True))[..., :-1].max(axis=-1)
    sizes = np.tile(boxes[..., 2:].clip(min=LEAST_SIZE), 2)
    shares = np.sqrt(sure / max(float(sure.sum()), SILENCE))[..., None]
    return np.asarray(shares / (2.0 * BOX_SHARE * sizes), np.float32)  # 2: four coordinates
