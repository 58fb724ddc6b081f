"""Images that show what another one shows: copies, frames of one scene, crops of one photo.

Five photos a hundred times over are five photos. What the models cannot tell apart is counted once. What is
nearly the same is grouped into scenes, and each scene counts as one image: its images share a weight of one,
as if one of them were drawn at random (within-cluster resampling: Hoffman, Sen and Weinberg, Biometrika 88,
2001, 1121-1134; weights of one over the cluster's size: Williamson, Datta and Satten, Biometrics 59, 2003,
36-42). An interval for as many independent images as there are scenes then covers, whatever the images of a
scene have in common, and is on the safe side where they differ.

Two images are of one scene if their thumbnails correlate and the float model's logits point the same way. The
logits of hundreds of classes are a fingerprint: of 110 photos of ImageNet's classes, the closest two have a
cosine of 0.82, a photo and its mirror image or its crop one of 0.95 to 0.98, so that there they may decide
alone and thumbnails need only be similar. The logits of few classes tell no more than the class. There the
thumbnails must be alike, and how much depends on the set: where images of one class resemble each other
anyway, as digits do, being alike says less.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Booleans, Floats, Integers

SIDE = 8  # of a thumbnail, pixels
_TELLING = 200  # classes from which logits are a fingerprint
_SAME_LOGITS = 0.95  # cosine that is enough by itself then
_FAR = 0.12  # one less the correlation of two thumbnails of one scene then
_DISTANT = 0.05  # the same with fewer classes, at most
_CLOSE = 0.02  # as near as this, two images are of one scene whatever the set looks like
_OF_CLASS = 0.1  # share of the median distance within a class
_LOGIT_COSINE = 0.85
_LEAST_CONTRAST = 4.0  # grey levels; a flatter thumbnail has no features that could correlate
_ROWS_AT_ONCE = 256
_SAMPLE = 2000  # images from which the set's own distances are taken


@dataclasses.dataclass(frozen=True, eq=False)
class Scenes:
    """Which images belong together."""

    of: NDArray[np.intp]  # (N,) number of each image's scene, 0 to count - 1, in order of first appearance

    @property
    def count(self) -> int:
        """How many scenes there are."""
        return int(self.of.max()) + 1 if self.of.size else 0

    @property
    def weights(self) -> NDArray[np.float64]:
        """(N,) one over the number of images of the image's scene."""
        weights: NDArray[np.float64] = 1.0 / np.bincount(self.of, minlength=1)[self.of]
        return weights

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each scene that has more than one image, the largest scene first."""
        order = np.argsort(self.of, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(self.of[order])) + 1)
        several = [tuple(part.tolist()) for part in parts if len(part) > 1]
        return tuple(sorted(several, key=len, reverse=True))


class SceneFinder:
    """Tells for images that come one batch after another to which scene each belongs.

    Args:
        limit: distance of thumbnails of one scene, from `scene_limit`.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._looks = np.empty((0, 3 * SIDE * SIDE), np.float32)
        self._logits = np.empty((0, 0), np.float32)
        self._scene = np.empty(0, np.intp)  # of each image the number of its scene's first one

    def add(self, thumbnails: NDArray[np.uint8], float_logits: Floats) -> Booleans:
        """Take in images.

        Args:
            thumbnails: (N, SIDE, SIDE, 3) uint8.
            float_logits: (N, C) finite.

        Returns:
            (N,) whether each begins a scene, as seen so far.
        """
        start, count = len(self._scene), len(self._scene) + len(thumbnails)
        self._looks = np.concatenate([self._looks, _features(thumbnails)])
        directions = _directions(float_logits)
        self._logits = np.concatenate([self._logits, directions]) if start else directions
        self._scene = np.concatenate([self._scene, np.arange(start, count)])
        for first in range(start, count, _ROWS_AT_ONCE):
            rows = slice(first, min(first + _ROWS_AT_ONCE, count))
            alike = np.tril(self._alike(rows), first - 1)
            for row in np.flatnonzero(alike.any(axis=1)).tolist():
                self._join(first + row, np.flatnonzero(alike[row]))
        begins: Booleans = self._scene[start:] == np.arange(start, count)
        return begins

    def _alike(self, rows: slice) -> Booleans:
        """Which of all images up to these are of one scene with each of these."""
        cosines = self._logits[rows] @ self._logits[: rows.stop].T
        alike: Booleans = self._looks[rows] @ self._looks[: rows.stop].T > 1.0 - self._limit
        alike &= cosines > _LOGIT_COSINE
        if self._logits.shape[1] >= _TELLING:
            alike |= cosines > _SAME_LOGITS
        return alike

    def scenes(self) -> Scenes:
        """Of all images so far."""
        return Scenes(np.unique(self._scene, return_inverse=True)[1].reshape(-1))

    def _join(self, row: int, others: NDArray[np.intp]) -> None:
        """One scene of an image and of earlier ones, with all that is of a scene with any of them."""
        found = np.unique(self._scene[others])
        if len(found) > 1:
            self._scene[np.isin(self._scene, found)] = found[0]
        self._scene[row] = found[0]


def find_scenes(thumbnails: NDArray[np.uint8], float_logits: Floats) -> Scenes:
    """Group images into scenes.

    Args:
        thumbnails: (N, SIDE, SIDE, 3) uint8, what the models see, reduced.
        float_logits: (N, C) finite.
    """
    finder = SceneFinder(scene_limit(thumbnails, float_logits))
    finder.add(thumbnails, float_logits)
    return finder.scenes()


def find_scenes_by_embeddings(thumbnails: NDArray[np.uint8], embeddings: Floats) -> Scenes:
    """Group images into scenes where there are no logits.

    What all embeddings have in common tells no image from another, and is taken off.

    Args:
        thumbnails: (N, SIDE, SIDE, 3) uint8, what the models see, reduced.
        embeddings: (N, D) finite, of the float model.
    """
    finder = SceneFinder(unseen_limit(embeddings.shape[1]))
    finder.add(thumbnails, embeddings - embeddings.mean(axis=0))
    return finder.scenes()


def scene_limit(thumbnails: NDArray[np.uint8], float_logits: Floats) -> float:
    """How far apart thumbnails of one scene may be in this set: one less their correlation."""
    if float_logits.shape[1] >= _TELLING:
        return _FAR
    looks, classes = _features(thumbnails[:_SAMPLE]), float_logits[:_SAMPLE].argmax(axis=1)
    distances = [
        1.0 - (looks[rows] @ looks[rows].T)[np.triu_indices(len(rows), 1)]
        for rows in (np.flatnonzero(classes == index) for index in np.unique(classes))
        if len(rows) > 1
    ]
    if not distances:
        return _DISTANT
    return float(np.clip(_OF_CLASS * np.median(np.concatenate(distances)), _CLOSE, _DISTANT))


def unseen_limit(classes: int) -> float:
    """`scene_limit` where the set is not known yet: on the side of too few scenes of several images."""
    return _FAR if classes >= _TELLING else _CLOSE


def first_of_each(digests: tuple[str, ...]) -> NDArray[np.intp]:
    """The rows that repeat no earlier one, in their order."""
    first: dict[str, int] = {}
    for row, digest in enumerate(digests):
        first.setdefault(digest, row)
    return np.fromiter(first.values(), np.intp, len(first))


def contradictions(digests: tuple[str, ...], labels: Integers) -> int:
    """How many images that are the same to the models bear another label than their first copy."""
    first: dict[str, int] = {}
    return sum(
        first.setdefault(digest, label) != label
        for digest, label in zip(digests, labels.tolist(), strict=True)
    )


def _features(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 3 SIDE^2) of mean 0 and length 1, zero where there is nothing to see."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    contrast = np.sqrt((flat**2).mean(axis=1, keepdims=True))
    # colour alone is no feature: the contrast must lie between places
    places = thumbnails.reshape(len(thumbnails), -1, 3).astype(np.float32).std(axis=1).max(axis=1)
    told = (places >= _LEAST_CONTRAST)[:, None] & (contrast > 0)
    length = np.where(told, contrast * np.sqrt(flat.shape[1]), 1.0)
    return np.where(told, flat / length, 0.0).astype(np.float32)


def _directions(logits: Floats) -> NDArray[np.float32]:
    centred = logits.astype(np.float32) - logits.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1.0), np.float32)
