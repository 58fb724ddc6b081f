"""Images in a folder by their names alone, before anything of them is read.

Apart from `dataset`, so that a command which only looks whether they are there imports neither the gate's
statistics nor what judges maps and boxes.
"""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from vit_edge.errors import DatasetError
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """The path, which is a folder.

    Raises:
        DatasetError: it is not.
    """
    folder = Path(path)
    if not folder.is_dir():
        cause = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {cause}; give a folder of images")
    return folder


def check_any(paths: Sequence[Path], folder: Path, limits: DecodeLimits) -> None:
    """Refuse a folder in which no image was found.

    Raises:
        DatasetError: none was.
    """
    if not paths:
        known = " ".join(sorted(limits.suffixes))
        raise DatasetError(
            f"{folder} holds no image ({known}); give a folder of images, or allow their format "
            "with --allow-format or DecodeLimits.formats"
        )


def _is_image(name: str, limits: DecodeLimits) -> bool:
    return not name.startswith(".") and posixpath.splitext(name)[1].lower() in limits.suffixes


def images_in(folder: Path, limits: DecodeLimits) -> list[Path]:
    """The images of the folder itself, sorted; hidden ones left out."""
    return sorted(entry for entry in folder.iterdir() if _is_image(entry.name, limits) and entry.is_file())


def sub_folders(folder: Path) -> list[Path]:
    """Its sub-folders, sorted; hidden ones left out."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def image_names(folder: str | os.PathLike[str], limits: DecodeLimits = DEFAULT_LIMITS) -> list[str]:
    """Every image in a folder and its sub-folders as its path below the folder, sorted; hidden ones left out.

    Raises:
        DatasetError: the folder, or one below it, cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename} cannot be read ({error.strerror}); its images would be missing")

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = os.path.relpath(parent, folder)
        found += [os.path.normpath(os.path.join(here, name)) for name in files if _is_image(name, limits)]  # noqa: PTH118
    return sorted(found)


def images_below(folder: Path, limits: DecodeLimits) -> list[Path]:
    """The images of a folder and its sub-folders, sorted; hidden ones left out.

    Raises:
        DatasetError: one of the folders cannot be read.
    """
    return sorted(folder / name for name in image_names(folder, limits))


def found_below(path: str | os.PathLike[str], limits: DecodeLimits = DEFAULT_LIMITS) -> list[Path]:
    """The images of a folder and its sub-folders, of which there is one at least.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    folder = existing_folder(path)
    found = images_below(folder, limits)
    check_any(found, folder, limits)
    return found
