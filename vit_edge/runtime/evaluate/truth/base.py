"""What is true of images, and how a model's outputs are held against it."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError
from vit_edge.runtime.image.decode import decode, open_image
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.scores import Scores

Maps = Mapping[str, NDArray[np.float32]]
Size = tuple[int, int]  # pixels (height, width)

SHOWN = 3  # names in a message


class Truth(abc.ABC):
    """Of a set of images, by their paths."""

    notes: tuple[str, ...]
    """What was left out or assumed."""

    @abc.abstractmethod
    def scores(self, paths: Sequence[Path], made: Maps, spec: PreprocessSpec) -> Scores:
        """How right a model is on a batch of images.

        Args:
            paths: N images.
            made: every output for them, (N, ...) each, under the names that the float model gives them.
            spec: how the images were preprocessed.
        """


def upright_size(path: Path, limits: DecodeLimits) -> Size:
    """Pixels (height, width) of an image as it is shown.

    Raises:
        ImageError: it cannot be read within the limits.
    """
    opened = open_image(path, limits)
    if opened.orientation is not None:
        width, height = opened.upright_size
    else:  # of formats other than JPEG it may stand behind the pixels
        width, height = decode(path, limits).size
    return height, width


class Named:
    """Finds images by how a truth file calls them: the end of their path, folders included."""

    def __init__(self, paths: Sequence[Path], whole: bool) -> None:
        """Index the images.

        Args:
            paths: of the images.
            whole: whether names have the suffix that tells the format.
        """
        self._whole = whole
        self._by_name: dict[str, list[tuple[str, Path]]] = {}
        for path in paths:
            text = self._key(path.absolute().as_posix())
            self._by_name.setdefault(PurePosixPath(text).name, []).append((text, path))

    def find(self, name: str, where: str) -> Path | None:
        """The image that is called so; None where there is none.

        Raises:
            DatasetError: several are.
        """
        asked = self._key(name.replace("\\", "/").removeprefix("./"))
        alike = self._by_name.get(PurePosixPath(asked).name, [])
        found = [path for text, path in alike if text == asked or text.endswith(f"/{asked}")]
        if len(found) > 1:
            raise DatasetError(
                f"{where} names {name!r}, which is both {found[0]} and {found[1]}; name it with its folder"
            )
        return found[0] if found else None

    def _key(self, text: str) -> str:
        return text if self._whole else PurePosixPath(text).with_suffix("").as_posix()


def absent(names: Sequence[str], total: int, where: str, folder: str) -> str:
    """What to say of images that truth speaks of and that are not there."""
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    if len(names) == total:
        return f"{where} and the images of {folder} have no name in common ({listed}); give those it is of"
    return (
        f"{where} speaks of {len(names)} images that are not in {folder} ({listed}); add them, or take "
        "them out of it"
    )


def left_out(count: int, where: str) -> tuple[str, ...]:
    """A note where images have no truth."""
    if not count:
        return ()
    images = "1 image is" if count == 1 else f"{count} images are"
    return (f"{images} left out, as {where} does not speak of them",)
