"""Occlusion: what hides an answer when it is covered. For any classifier, without gradients.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (ECCV 2014), section 4.2.
"""

import math
from collections.abc import Callable

import numpy as np

from vit_edge.arrays import Float32, Pixels

Score = Callable[
    [Pixels], Float32
]  # of images (N, H, W, 3), (N,) how surely each is of the class in question

_BATCH = 8


def occlusion_map(pixels: Pixels, score: Score, steps: int) -> Float32:
    """How far the score falls when a part of the image is covered with its mean colour.

    A square of two steps a side moves over the image, one step at a time; a place gets the mean over all
    squares that cover it.

    Args:
        pixels: (H, W, 3) uint8.
        score: of batches of images.
        steps: along the shorter side; the model runs on about `steps` squared images.

    Returns:
        (H, W) float32 in units of the score, positive where the place speaks for the class.
    """
    height, width = pixels.shape[:2]
    step = max(1, math.floor(min(height, width) / steps))
    places = [(y, x) for y in range(-step, height, step) for x in range(-step, width, step)]
    colour = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    whole = float(score(pixels[None])[0])
    total, seen = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(places), _BATCH):
        parts = [_square(place, 2 * step) for place in places[start : start + _BATCH]]
        covered = np.repeat(pixels[None], len(parts), axis=0)
        for image, part in zip(covered, parts, strict=True):
            image[part] = colour
        for part, found in zip(parts, score(covered).tolist(), strict=True):
            total[part] += whole - found
            seen[part] += 1
    return np.asarray(total / seen, np.float32)


def _square(place: tuple[int, int], side: int) -> tuple[slice, slice]:
    y, x = place
    return slice(max(y, 0), y + side), slice(max(x, 0), x + side)
