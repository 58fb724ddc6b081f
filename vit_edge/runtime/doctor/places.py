"""Whether a model knows where its patches lie: their places are exchanged, and its answer must change."""

import numpy as np

from vit_edge.arrays import Float32, Pixels
from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.runtime.doctor.runs import Runner
from vit_edge.runtime.doctor.variants import Variant

_UNCHANGED = 0.01  # of the spread between images; rounding of integers stays below, places do not
_MOST_SIDES = 16  # sizes of a patch that are tried
_LEAST_PATCHES = 4


def patch_sizes(height: int, width: int) -> list[int]:
    """Sides that a square patch of an image may have, in pixels, the largest first."""
    sides = [side for side in range(2, min(height, width) + 1) if height % side == 0 and width % side == 0]
    fitting = [side for side in sides if (height // side) * (width // side) >= _LEAST_PATCHES]
    return fitting[::-1][:_MOST_SIDES]


def exchanged(pixels: Pixels, side: int, seed: int = 0) -> Pixels:
    """Images (N, H, W, 3) with their square patches in another order, the same for all."""
    count, height, width, colours = pixels.shape
    rows, columns = height // side, width // side
    order = np.random.default_rng(seed).permutation(rows * columns)
    patches = pixels.reshape(count, rows, side, columns, side, colours).transpose(0, 1, 3, 2, 4, 5)
    moved = patches.reshape(count, rows * columns, side, side, colours)[:, order]
    back = moved.reshape(count, rows, columns, side, side, colours).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(back.reshape(pixels.shape))


def positions_missing(runner: Runner, pixels: Pixels, stated: Variant) -> list[Finding] | None:
    """Look for a size of patches whose order is all the same to the model.

    Without positional embeddings, any order of the patches is the same to attention and to pooling, and only
    for patches of the model's own size or a multiple of it, which therefore need not be known.

    Args:
        runner: of the model.
        pixels: (N, H, W, 3) as it sees them, two images at least.
        stated: the stated way to make its input.

    Returns:
        None where the images do not tell, as the answers to them are all the same.
    """
    before = runner.logits(pixels, stated)
    spread = float(before.std(axis=0).max())
    if len(pixels) < 2 or spread <= 1e-6 * max(1.0, float(np.abs(before).max())):
        return None
    changes = {
        side: _change(runner.logits(exchanged(pixels, side), stated), before) / spread
        for side in patch_sizes(*pixels.shape[1:3])
        if not np.array_equal(exchanged(pixels, side), pixels)
    }
    if not changes:
        return None
    unchanged = [side for side, change in changes.items() if change <= _UNCHANGED]
    if not unchanged:
        return []
    side = min(unchanged)  # the model's own, of which larger ones are made
    return [
        Finding(
            Code.POSITIONS_MISSING,
            Severity.ERROR,
            f"the answer stays the same when patches of {side}x{side} pixels change places: positional "
            "embeddings are missing or all the same",
            "load the checkpoint with its positional embeddings; a model trained without them is right so",
            (
                Figure("change of a logit in spreads between images", changes[side]),
                Figure("patch", float(side)),
            ),
        )
    ]


def _change(after: Float32, before: Float32) -> float:
    return float(np.abs(after - before).max())
