"""From the cells of a labels.csv to what is true of an image: a class, several labels, or values."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.labels import LabelTable
from vit_edge.spec import OutputKind

SEPARATOR = ";"  # between several labels or values of an image

Truth = int | tuple[int, ...] | tuple[float, ...]
ReadCell = Callable[[str, str], Truth]  # of a cell, and how errors call its place


def cell_reader(kind: OutputKind, table: LabelTable) -> ReadCell:
    """How a cell is read for models of a kind.

    Single label: a name, id or index. Several labels: any number of these with `;` between, none at all where
    the cell is empty. Values: finite numbers with `;` between.
    """
    index_of = table.cell_reader()

    def one(cell: str, where: str) -> int:
        index = index_of(cell.strip())
        if index is None:
            known = f"0 to {table.classes - 1}" if table.classes else "0 or more"
            raise DatasetError(
                f"{where} has label {cell!r}, which is neither the name of one of the model's classes "
                f"nor an index ({known}); correct it"
            )
        return index

    def several(cell: str, where: str) -> Truth:
        return tuple(one(part, where) for part in cell.split(SEPARATOR) if part.strip())

    if kind.task is OutputKind.REGRESSION:
        return _numbers
    return several if kind.task is OutputKind.MULTI_LABEL else one


def as_targets(kind: OutputKind, found: Sequence[Any], table: LabelTable, where: str) -> NDArray[Any]:
    """The cells of all images as one array: (N,) int64, (N, C) bool, or (N, T) float64.

    Raises:
        DatasetError: images with different numbers of values, or a model of several labels without names.
    """
    if kind.task is OutputKind.REGRESSION:
        counts = sorted({len(values) for values in found})
        if len(counts) > 1:
            raise DatasetError(f"{where} has {counts[0]} values for one image and {counts[-1]} for another")
        return np.array(found, np.float64)
    if kind.task is not OutputKind.MULTI_LABEL:
        return np.asarray(found, np.int64)
    width = table.classes or 1 + max((index for labels in found for index in labels), default=0)
    marks = np.zeros((len(found), width), np.bool_)
    for row, labels in zip(marks, found, strict=True):
        row[list(labels)] = True
    return marks


def _numbers(cell: str, where: str) -> Truth:
    try:
        values = tuple(float(part) for part in cell.split(SEPARATOR))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise DatasetError(f"{where} has the value {cell!r}, which is no finite number; correct it")
    return values
