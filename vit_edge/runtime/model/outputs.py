"""Which output of a model file holds its answers, and what these numbers mean."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vit_edge.runtime.model.header import FLOAT, FLOAT16, OnnxHeader, TensorInfo
from vit_edge.runtime.model.interface import MAX_SIDE, as_float32, check_range, check_tensor, is_embedder
from vit_edge.runtime.model.maps import Map, OutputShape, chosen_map, dims_text, gives_maps
from vit_edge.runtime.model.metadata import OUTPUT_KEY, output_of
from vit_edge.spec import (
    CLS_EMBEDDING,
    LOGITS,
    MAX_BATCH,
    PATCH_FEATURES,
    POOLED_EMBEDDING,
    OutputKind,
    tap_of,
)

# What exporters call the answers of a classifier, the surest first.
ANSWER_NAMES = (LOGITS, "logit", "probabilities", "probs", "prob")

_MAX_CLASSES = 1_000_000
_MAX_DIM = 65_536
_MAX_AXIS = 1_000_000  # of a map


@dataclasses.dataclass(frozen=True)
class Features:
    """What an embedder gives for one image."""

    dim: int  # D, the length of every embedding
    grid: tuple[int, int]  # patches (rows, columns)
    has_cls: bool  # whether cls_embedding is among the outputs
    taps: tuple[int, ...] = ()  # blocks, from 0, whose patches are among them, in the order of the file


@dataclasses.dataclass(frozen=True)
class OutputWanted:
    """What the caller states about a file, where that does not say so itself or not clearly."""

    name: str | None = None  # of the output that holds the answers
    kind: OutputKind | None = None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model file gives."""

    name: str = LOGITS  # of the output that holds the answers, of a classifier
    kind: OutputKind = OutputKind.SINGLE_LABEL
    values: int | None = (
        None  # numbers per image, channels of a map; None where left open, and of an embedder
    )
    features: Features | None = None  # of an embedder
    maps: tuple[Map, ...] = ()  # of a model of maps, the one that is shown first
    told: bool = True  # whether the caller, the file or its bundle says what the numbers mean


def read_outputs(
    header: OnnxHeader,
    wanted: OutputWanted,
    recorded: OutputKind | None = None,
    labels: int | None = None,
) -> Outputs:
    """Find the answers among a file's outputs, by name and shape, and their meaning.

    A file that gives no row of numbers per image but a map, or is said to, is one of maps.

    The meaning is what the caller states, or else the file's metadata, or else follows from a final Softmax
    or Sigmoid.

    Args:
        header: of the file.
        wanted: what the caller states.
        recorded: what the manifest of its bundle says, None outside of a bundle.
        labels: how many names the file has for its answers, None where it has none.

    Raises:
        ValueError: several outputs might hold the answers, none does, or metadata and manifest disagree.
    """
    outputs = {info.name: info for info in header.outputs}
    if wanted.name is None and is_embedder(header):
        return Outputs(features=_features(outputs))
    own = output_of(header.metadata)
    shapes = [_shape(info) for info in header.outputs]
    if gives_maps(shapes, wanted.name, wanted.kind or own or recorded):
        return _maps(header, wanted.name, recorded)
    info = outputs[chosen_output(shapes, wanted.name, labels)]
    values = _checked_values(info)
    kind = _kind(header, info.name, values, wanted.kind, recorded)
    said = wanted.kind is not None or recorded is not None or OUTPUT_KEY in header.metadata
    return Outputs(info.name, kind, values, told=said or info.name in header.ends)


def _shape(info: TensorInfo) -> OutputShape:
    return OutputShape(info.name, info.elem_type in (FLOAT, FLOAT16), info.dims)


def chosen_output(outputs: list[OutputShape], wanted: str | None, answers: int | None = None) -> str:
    """The name of the output that holds one row of answers per image.

    Args:
        outputs: all outputs of a classifier.
        wanted: its name, where the caller states it.
        answers: how many numbers it gives, where that is known.

    Raises:
        ValueError: there is none, or more than one that might; the message names them and `--output`.
    """
    shown = ", ".join(f"{each.name} {dims_text(each)}" for each in outputs[:8])
    names = [each.name for each in outputs]
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"has no output {wanted!r}; --output can name one of: {shown}")
        return wanted
    if len(outputs) == 1 or LOGITS in names:
        return LOGITS if LOGITS in names else names[0]
    rows = [each for each in outputs if each.is_float and each.dims is not None and len(each.dims) == 2]
    fitting = [each for each in rows if answers is not None and (each.dims or ())[1] == answers]
    for group in (fitting, rows):
        if len(group) == 1:
            return group[0].name
        known = [name for name in ANSWER_NAMES if any(each.name.lower() == name for each in group)]
        if known:
            return next(each.name for each in group if each.name.lower() == known[0])
    if not rows:
        raise ValueError(f"has the outputs {shown}; one must hold (N, classes) floating-point answers")
    raise ValueError(f"has several outputs that may hold its answers ({shown}); name one with --output")


def _kind(
    header: OnnxHeader, name: str, values: int | None, stated: OutputKind | None, recorded: OutputKind | None
) -> OutputKind:
    own = output_of(header.metadata)
    _same_kind(own, recorded)
    said = own or recorded
    return with_activation(said if stated is None else stated, header.ends.get(name), values)


def _same_kind(own: OutputKind | None, recorded: OutputKind | None) -> None:
    if own is not None and recorded is not None and own is not recorded:
        raise ValueError(
            f"gives {own.value}, but its bundle records {recorded.value}; build the bundle again"
        )


def with_activation(said: OutputKind | None, activation: str | None, values: int | None) -> OutputKind:
    """The kind of numbers behind a graph's last operator.

    Args:
        said: what is stated about them; None where nothing is.
        activation: "Softmax" or "Sigmoid" where the graph ends in one.
        values: numbers per image, None where unknown.

    Raises:
        ValueError: what is stated cannot be of what the graph ends in.
    """
    if activation is None or (said is not None and said.ends_as_is):
        return said or OutputKind.SINGLE_LABEL
    several = said is not None and said.logits is not OutputKind.SINGLE_LABEL
    if said is not None and several is not (activation == "Sigmoid"):
        makes = "one class of several" if activation == "Softmax" else "each label for itself"
        raise ValueError(
            f"ends in a {activation}, which gives {makes}, but is said to give {said.value}; "
            "say with --output-kind what it does"
        )
    if activation == "Softmax":
        return OutputKind.SINGLE_LABEL_PROBABILITIES
    single = said.logits is OutputKind.BINARY if said is not None else values == 1
    return OutputKind.BINARY_PROBABILITY if single else OutputKind.MULTI_LABEL_PROBABILITIES


_SAME = 1e-3  # share by which sums that are meant to be equal may differ: probabilities in float16


def seem_probabilities(values: npt.NDArray[np.float32]) -> str | None:
    """What speaks against numbers being logits; None where nothing does.

    Probabilities may come out of operators that are no Softmax or Sigmoid by name.

    Args:
        values: (N, C) of N images, finite.
    """
    if values.shape[1] < 2 or values.min() < 0 or values.max() <= 0:
        return None
    sums = values.sum(axis=1)
    if len(values) == 1:
        return "add up to 1" if abs(float(sums[0]) - 1.0) < _SAME else None
    if np.ptp(values, axis=0).max() <= _SAME * float(values.max()):  # it hardly sees the image
        return None
    if np.ptp(sums) <= _SAME * float(sums.mean()):
        return f"add up to {float(sums.mean()):.4g} for every image"
    return "lie from 0 to 1 for every image" if values.max() <= 1 and values.shape[1] > 2 else None


def both_names(labels: tuple[str, ...], kind: OutputKind) -> tuple[str, ...]:
    """The labels of no and yes where one logit has the name of its yes alone; else the labels as they are."""
    if kind.logits is OutputKind.BINARY and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    return labels


def check_meaning(kind: OutputKind, values: int | None) -> None:
    """Refuse numbers that cannot mean what they are said to.

    Raises:
        ValueError: a single number that is said to be one of several classes, or several numbers as one.
    """
    if values == 1 and kind.logits is OutputKind.SINGLE_LABEL:
        raise ValueError(
            "gives one number per image and does not say what it means; state it with "
            f"--output-kind {OutputKind.BINARY.value} or {OutputKind.REGRESSION.value}"
        )
    if values == 1 and kind.task is OutputKind.EMBEDDING:
        raise ValueError("gives one number per image, which is no embedding")
    if values not in (1, None) and kind.logits is OutputKind.BINARY:
        raise ValueError(f"gives {values} numbers per image, which cannot be one {kind.value}")


def _checked_values(info: TensorInfo) -> int | None:
    info = as_float32(info)
    if info.dims is None and info.elem_type == FLOAT and info.name != LOGITS:
        return None
    check_tensor(info, FLOAT, "float32 (N, classes)", 2)
    batch, classes = info.dims or ()
    check_range(batch, MAX_BATCH, f"batch size of {info.name}")
    check_range(classes, _MAX_CLASSES, "number of classes")
    return classes


def _maps(header: OnnxHeader, wanted: str | None, recorded: OutputKind | None) -> Outputs:
    shapes = [_shape(info) for info in header.outputs]
    first = chosen_map(shapes, wanted)
    ordered = sorted(shapes, key=lambda each: each.name != first)
    maps = [
        Map(each.name, each.dims[1:])
        for each in ordered
        if each.is_float and each.dims and len(each.dims) > 1
    ]
    for each in maps:
        for size in each.shape:
            check_range(size, _MAX_AXIS, f"size of {each.name}")
    _same_kind(output_of(header.metadata), recorded)
    return Outputs(
        first, OutputKind.MAP, maps[0].shape[0] if len(maps[0].shape) == 3 else None, maps=tuple(maps)
    )


def _features(outputs: Mapping[str, TensorInfo]) -> Features:
    grid_info = outputs[PATCH_FEATURES]
    check_tensor(grid_info, FLOAT, "float32 (N, rows, columns, dim)", 4)
    batch, rows, columns, dim = grid_info.dims or ()
    if rows is None or columns is None or dim is None:
        raise ValueError(f"leaves the shape of {PATCH_FEATURES} open; export it with a fixed image size")
    check_range(batch, MAX_BATCH, f"batch size of {PATCH_FEATURES}")
    for count, what in ((rows, "patch rows"), (columns, "patch columns")):
        check_range(count, MAX_SIDE, f"number of {what}")
    check_range(dim, _MAX_DIM, "embedding dimension")
    for name in (CLS_EMBEDDING, POOLED_EMBEDDING):
        if name in outputs:
            check_tensor(outputs[name], FLOAT, f"float32 (N, {dim})", 2)
            if (outputs[name].dims or ())[1] != dim:
                raise ValueError(
                    f"has {name} of another dimension than {PATCH_FEATURES} ({dim}); export it again"
                )
    return Features(dim, (rows, columns), CLS_EMBEDDING in outputs, _taps(outputs, (rows, columns, dim)))


def _taps(outputs: Mapping[str, TensorInfo], shape: tuple[int, int, int]) -> tuple[int, ...]:
    taps = {name: tap for name in outputs if (tap := tap_of(name)) is not None}
    for name in taps:
        check_tensor(outputs[name], FLOAT, "float32 (N, rows, columns, dim)", 4)
        if (outputs[name].dims or ())[1:] != shape:
            raise ValueError(f"has {name} of another shape than {PATCH_FEATURES} {shape}; export it again")
    return tuple(taps.values())
