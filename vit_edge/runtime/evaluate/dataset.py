"""Folders of images, labelled or not, as one ordered set of paths and class indices."""

import csv
import dataclasses
import io
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError
from vit_edge.files import read_text
from vit_edge.runtime.evaluate.cells import Truth, as_targets, cell_reader
from vit_edge.runtime.evaluate.folder import (
    check_any,
    existing_folder,
    found_below,
    images_below,
    images_in,
    sub_folders,
)
from vit_edge.runtime.evaluate.labels import LabelTable
from vit_edge.runtime.evaluate.truth.base import Truth as PlaceTruth
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.spec import OutputKind

LABEL_FILE = "labels.csv"

_MAX_BYTES = 256 * 2**20  # of it


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in a fixed order, with their classes where known."""

    name: str  # of the folder
    paths: tuple[Path, ...]
    targets: NDArray[Any] | None  # (N,) class indices, (N, C) bool or (N, T) values, not writable
    limits: DecodeLimits = DEFAULT_LIMITS  # what they are decoded within
    truth: PlaceTruth | None = None  # boxes or masks, by path

    def __post_init__(self) -> None:
        """Hold the one thing that every reader relies on: a target per path."""
        if self.targets is not None:
            if len(self.targets) != len(self.paths):
                raise DatasetError(
                    f"{self.name} has {len(self.paths)} images and {self.targets.shape} labels"
                )
            own = self.targets.copy()
            own.flags.writeable = False
            object.__setattr__(self, "targets", own)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether anything is known to be true of them."""
        return self.targets is not None or self.truth is not None

    def chosen(self, indices: NDArray[np.intp]) -> Self:
        """Some of the images, in the order of the indices."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[index] for index in indices),
            targets=None if self.targets is None else self.targets[indices],
        )

    def first(self, count: int) -> Self:
        """The first of them."""
        return self if count >= len(self) else self.chosen(np.arange(count))

    def limited(self, limit: int, seed: int = 0) -> Self:
        """At most `limit` of the images, spread evenly over the classes, or over the folder without labels.

        Systematic sampling: the images are ordered by class, at random within a class, and every
        (N / limit)-th is taken from a random start, so a class keeps its share to within one image.

        Raises:
            DatasetError: limit below 1.
        """
        if limit < 1:
            raise DatasetError(f"cannot take {limit} images of {self.name}; take at least one")
        if limit >= len(self):
            return self
        generator = np.random.default_rng(seed)
        order = np.arange(len(self))
        if self.targets is not None:
            keys = (self.targets,) if self.targets.ndim == 1 else ()
            order = np.lexsort((generator.random(len(self)), *keys))
        positions = (np.arange(limit) + generator.random()) * (len(self) / limit)
        chosen = np.sort(order[np.minimum(positions.astype(np.intp), len(self) - 1)])
        return self.chosen(chosen)


def read_images(
    path: str | os.PathLike[str],
    labels: Sequence[str] | None = None,
    class_ids: Sequence[str] | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    kind: OutputKind = OutputKind.SINGLE_LABEL,
) -> ImageSet:
    """Read a folder of images in whichever of three forms it has.

    * with a `labels.csv` (columns `path` and `label`): the images listed there, in the order of their paths;
      a label is one of the model's label names, a class id or a class index
    * with images in sub-folders: each sub-folder is a class, matched to the model's by
      `LabelTable.match_folders`
    * with images and no sub-folders: unlabelled

    Hidden files and folders, and sub-folders without images, are passed over.

    Args:
        path: the folder.
        labels: the model's labels in index order, or None where it carries none.
        class_ids: the classes' ids in index order (see `labels.read_class_ids`), where folders are named so.
        limits: the formats that count as images, told by the ends of their names.
        kind: of the model. For several labels a cell of labels.csv holds them with `;` between, for values
            a column `target` holds numbers; folders cannot. For maps all images count as unlabelled.

    Raises:
        DatasetError: no such folder, no image in it, or labels that cannot be matched.
    """
    folder = existing_folder(path)
    if kind is OutputKind.MAP:
        return list_images(folder, limits)  # names of folders are no labels of maps
    table = LabelTable(
        None if labels is None else tuple(labels), None if class_ids is None else tuple(class_ids)
    )
    if (folder / LABEL_FILE).is_file():
        return _read_label_file(folder, table, limits, kind)
    here = images_in(folder, limits)
    classes = {sub.name: found for sub in sub_folders(folder) if (found := images_below(sub, limits))}
    if here and classes:
        raise DatasetError(
            f"{folder} holds both images ({here[0].name}) and folders of images ({next(iter(classes))}); "
            "use one folder per class, or one folder without any, or add a labels.csv"
        )
    if not classes:
        return _set_of(folder, limits, here)
    if kind.task is not OutputKind.SINGLE_LABEL:
        how = "its values" if kind.task is OutputKind.REGRESSION else "all its labels with ; between"
        raise DatasetError(
            f"{folder} has a folder per class, which the model does not tell apart ({kind.value}); add a "
            f"labels.csv that gives each image {how}, or use one folder without labels"
        )
    indices = table.match_folders(classes, folder)
    labelled = sorted((image, indices[name]) for name, found in classes.items() for image in found)
    return _set_of(folder, limits, [image for image, _ in labelled], [target for _, target in labelled])


def read_grouped(
    path: str | os.PathLike[str],
    class_ids: Sequence[str] | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> ImageSet:
    """Read a folder as `read_images` does, its sub-folders or labels being classes of whatever name.

    For models that have no classes of their own, to which only matters which images are of one class.

    Args:
        path: the folder.
        class_ids: the classes' ids, where folders or labels are named so and their indices are wanted.
        limits: the formats that count as images.

    Raises:
        DatasetError: as `read_images`.
    """
    folder = existing_folder(path)
    if class_ids is not None:
        return read_images(folder, None, class_ids, limits)
    if (folder / LABEL_FILE).is_file():
        names = _label_cells(folder)
        # numbers are indices, as everywhere
        return read_images(folder, None if all(map(str.isdigit, names)) else names, None, limits)
    return read_images(folder, [sub.name for sub in sub_folders(folder)], None, limits)


def list_images(path: str | os.PathLike[str], limits: DecodeLimits = DEFAULT_LIMITS) -> ImageSet:
    """Every image in a folder and its sub-folders, unlabelled: what calibration needs.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    return _set_of(Path(path), limits, found_below(path, limits))


def _set_of(
    folder: Path, limits: DecodeLimits, paths: Sequence[Path], targets: Sequence[int] | None = None
) -> ImageSet:
    check_any(paths, folder, limits)
    array = None if targets is None else np.asarray(targets, dtype=np.int64)
    return ImageSet(folder.resolve().name, tuple(paths), array, limits)


def _read_label_file(folder: Path, table: LabelTable, limits: DecodeLimits, kind: OutputKind) -> ImageSet:
    source = folder / LABEL_FILE
    is_value = kind.task is OutputKind.REGRESSION
    try:
        rows = csv.DictReader(io.StringIO(read_text(source, _MAX_BYTES), newline=""), strict=True)
        names = rows.fieldnames or ()
        column = "target" if is_value and "label" not in names else "label"
        missing = sorted({"path", column} - set(names))
        if missing:
            raise DatasetError(
                f"{source} has no column {' or '.join(missing)}; its first line must be path,{column}"
            )
        targets = _listed_targets(rows, column, folder, table, kind)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or error
        raise DatasetError(f"cannot read {source}: {cause}; give a UTF-8 file of path,label lines") from None
    if not targets:
        raise DatasetError(f"{source} lists no image; add path,label lines or remove the file")
    ordered = sorted(targets)
    paths = [folder / name for name in ordered]
    found = as_targets(kind, [targets[name] for name in ordered], table, str(source))
    return dataclasses.replace(_set_of(folder, limits, paths), targets=found)


def _label_cells(folder: Path) -> list[str]:
    """The different labels of a label file; whatever is wrong with it is refused when it is read."""
    try:
        rows = csv.DictReader(
            io.StringIO(read_text(folder / LABEL_FILE, _MAX_BYTES), newline=""), strict=True
        )
        return sorted({row.get("label") or "" for row in rows})
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _listed_targets(
    rows: "csv.DictReader[str]", column: str, folder: Path, table: LabelTable, kind: OutputKind
) -> dict[str, Truth]:
    read = cell_reader(kind, table)
    may_be_empty = kind.task is OutputKind.MULTI_LABEL
    targets: dict[str, Truth] = {}
    for row in rows:
        where = f"line {rows.line_num} of {folder / LABEL_FILE}"
        path, cell = row["path"], row[column]
        if not path or cell is None or not (cell or may_be_empty):
            raise DatasetError(f"{where} has no {column if path else 'path'}; write path,{column}")
        relative = _listed_path(path, folder, where)
        if relative in targets:
            raise DatasetError(f"{where} lists {relative} a second time; list each image once")
        targets[relative] = read(cell, where)
    return targets


def _listed_path(cell: str, folder: Path, where: str) -> str:
    relative = posixpath.normpath(cell)
    if Path(cell).is_absolute() or relative.split("/")[0] == "..":
        raise DatasetError(f"{where} leads out of the folder: {cell!r}; use paths inside {folder}")
    if "\0" in cell or not (folder / relative).is_file():
        raise DatasetError(f"{where} lists {cell!r}, which is not a file in {folder}; correct the path")
    return relative


def evenly(paths: Sequence[Path], count: int) -> tuple[Path, ...]:
    """At most `count` of the images, evenly spread."""
    count = min(count, len(paths))
    return tuple(paths[i * len(paths) // count] for i in range(count))
