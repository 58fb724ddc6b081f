"""What the statistics accept: finite logits of one shape, and labels that name their columns."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ModelError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Booleans = NDArray[np.bool_]
Reals = NDArray[np.float64]

ROWS_AT_ONCE = 4096  # bounds the float64 copies: 33 MB for 1000 classes


def check_logits(logits: Floats, role: str) -> None:
    """Refuse what is not a table of finite logits.

    Args:
        logits: (N, C) floating point, one row per image.
        role: "float" or "quantized", for the message.

    Raises:
        DatasetError: there is no row.
        ModelError: wrong rank or dtype, fewer than two classes, or a NaN or infinity.
    """
    if logits.ndim != 2 or not np.issubdtype(logits.dtype, np.floating):
        raise ModelError(
            f"the {role} model's logits must be a floating-point array of shape (images, classes), "
            f"got {logits.dtype} of shape {logits.shape}"
        )
    if logits.shape[0] == 0:
        raise DatasetError(f"the {role} model has no logits to judge; give it at least one image")
    if logits.shape[1] < 2:
        raise ModelError(f"the {role} model has {logits.shape[1]} class; a classifier needs at least two")
    bad_rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad_rows.size:
        raise ModelError(
            f"the {role} model's logits are NaN or infinite for {bad_rows.size} of {logits.shape[0]} images, "
            f"first for image {bad_rows[0]}; quantize again with other settings or check the image"
        )


def check_pair(float_logits: Floats, quant_logits: Floats) -> None:
    """Refuse two tables of logits that cannot be compared row by row.

    Args:
        float_logits: (N, C) floating point.
        quant_logits: (N, C) floating point, the same images in the same order.

    Raises:
        DatasetError: there is no row.
        ModelError: either is no table of finite logits, or their shapes differ.
    """
    check_logits(float_logits, "float")
    check_logits(quant_logits, "quantized")
    if float_logits.shape != quant_logits.shape:
        raise ModelError(
            f"the float model's logits have shape {float_logits.shape} and the quantized model's "
            f"{quant_logits.shape}; compare two forms of one model on the same images"
        )


def check_labels(labels: Integers, images: int, classes: int) -> None:
    """Refuse labels that do not name one column of the logits per row.

    Args:
        labels: (N,) integer class indices.
        images: N.
        classes: C.

    Raises:
        DatasetError: wrong shape or dtype, or an index outside 0 to C - 1.
    """
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (images,):
        raise DatasetError(
            f"labels must be {images} integers, one per image, got {labels.dtype} of shape {labels.shape}"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        first = outside[0]
        raise DatasetError(
            f"label {labels[first]} of image {first} lies outside the model's classes 0 to {classes - 1}; "
            "label the images with the model's own class indices"
        )


def row_blocks(rows: int) -> Iterator[slice]:
    """Slices that cover `rows` in blocks small enough to be copied to float64."""
    for start in range(0, rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, rows))
