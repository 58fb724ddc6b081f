"""What the models saw of every image: a digest that tells copies, and a thumbnail that tells likenesses."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.arrays import Floats
from vit_edge.verify.copies import SIDE, Scenes, contradictions, find_scenes, first_of_each

_DIGEST = 32  # hexadecimal digits: 128 bits
_NAMED = 20  # groups of copies or of one scene that are listed

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Of N images."""

    digests: tuple[str, ...]  # of the pixels that the models are given: equal for what they cannot tell apart
    thumbnails: Pixels  # (N, SIDE, SIDE, 3)

    def at(self, rows: NDArray[np.intp]) -> "Views":
        """Of some of the images."""
        return Views(tuple(self.digests[row] for row in rows), self.thumbnails[rows])


def views_of(pixels: Mapping[PreprocessSpec, Pixels]) -> Views:
    """Of a batch, each array (N, H, W, 3) uint8."""
    arrays = list(pixels.values())
    digests = tuple(_digest([array[row] for array in arrays]) for row in range(len(arrays[0])))
    return Views(digests, np.stack([_thumbnail(image) for image in arrays[0]]))


class Viewer:
    """Keeps the views of the images that pass by."""

    def __init__(self) -> None:
        self._digests: list[str] = []
        self._thumbnails: list[Pixels] = []

    def keep(self, views: Views) -> None:
        """Those of a batch."""
        self._digests += views.digests
        self._thumbnails.append(views.thumbnails)

    def views(self) -> Views:
        """Of all images so far."""
        return Views(tuple(self._digests), np.concatenate(self._thumbnails))


@dataclasses.dataclass(frozen=True, eq=False)
class Copies:
    """What was found among the images that were run."""

    groups: tuple[tuple[str, ...], ...]  # names of images that are the same to the models
    left_out: int  # images that only repeat another one
    contradicting: int  # of those, with another label
    similar: tuple[tuple[str, ...], ...]  # names of images of one scene, of those that are left
    scenes: int  # what counts as independent
    apart: bool  # similar images were shown but not grouped, because the images are said to be independent

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; of long lists of groups the beginning."""
        raw = dataclasses.asdict(self)
        return raw | {key: [list(group) for group in raw[key][:_NAMED]] for key in ("groups", "similar")}


@dataclasses.dataclass(frozen=True, eq=False)
class Distinct:
    """Images without copies, and the scenes that they make."""

    rows: NDArray[np.intp]  # of all images, those that are kept
    scenes: Scenes | None  # of those; None where every image is one of its own
    copies: Copies


def distinct(
    images: ImageSet,
    views: Views,
    float_logits: Floats,
    *,
    apart: bool = False,
    find: Callable[[Pixels, Floats], Scenes] = find_scenes,
) -> Distinct:
    """Leave out copies and group what shows one scene.

    Args:
        images: in the order of the rows.
        views: of the same.
        float_logits: (N, C) of the same.
        apart: the images are independent of one another, however alike: group none.
        find: tells scenes by thumbnails and by what the float model gives, logits or else.
    """
    rows = first_of_each(views.digests)
    kept = views.at(rows)
    scenes = find(kept.thumbnails, float_logits[rows])
    by_digest: dict[str, list[str]] = {}
    for digest, path in zip(views.digests, images.paths, strict=True):
        by_digest.setdefault(digest, []).append(path.as_posix())
    names = [images.paths[row].as_posix() for row in rows]
    copies = Copies(
        groups=tuple(tuple(group) for group in by_digest.values() if len(group) > 1),
        left_out=len(views.digests) - len(rows),
        contradicting=0 if images.targets is None else contradictions(views.digests, _as_ids(images.targets)),
        similar=tuple(tuple(names[row] for row in group) for group in scenes.groups),
        scenes=len(rows) if apart else scenes.count,
        apart=apart,
    )
    return Distinct(rows, None if apart or scenes.count == len(rows) else scenes, copies)


def _as_ids(targets: NDArray[Any]) -> NDArray[np.int64]:
    """One number for each truth that differs."""
    if targets.ndim == 1:
        return targets
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)


def _digest(arrays: Sequence[Pixels]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr(array.shape).encode())
        found.update(array.tobytes())
    return found.hexdigest()[:_DIGEST]


def _thumbnail(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))
