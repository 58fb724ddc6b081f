"""Which outputs of a graph are maps: a number for every place of an image; and which are boxes.

A detection head gives Q boxes (Q, 4), as centre, width and height in shares of what the model sees, and for
each of them logits (Q, classes + 1), of which the last says that there is nothing. So do DETR (Carion et al.
2020) and YOLOS (Fang et al. 2021), under the names that transformers gives them.
"""

import dataclasses
from collections.abc import Sequence

from vit_edge.spec import OutputKind


@dataclasses.dataclass(frozen=True)
class OutputShape:
    """One output of a graph as far as the choice among several needs it."""

    name: str
    is_float: bool
    dims: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Map:
    """One floating-point output of a model of maps."""

    name: str
    shape: tuple[int | None, ...]  # for one image, usually (channels, rows, columns); None where left open


BOXES = ("pred_boxes", "boxes")
BOX_LOGITS = ("logits", "pred_logits")


@dataclasses.dataclass(frozen=True)
class DetectionOutputs:
    """The two outputs of a detection head."""

    logits: str
    boxes: str
    classes: int | None  # without the one for nothing; None where left open


def detection_outputs(maps: Sequence[Map]) -> DetectionOutputs | None:
    """The outputs that boxes are read from, by name and shape; None where there are none."""
    logits = next((each for each in maps if each.name in BOX_LOGITS and len(each.shape) == 2), None)
    boxes = next((each for each in maps if each.name in BOXES and len(each.shape) == 2), None)
    if logits is None or boxes is None or boxes.shape[1] not in (4, None):
        return None
    count, wide = logits.shape
    if None not in (count, boxes.shape[0]) and count != boxes.shape[0]:
        return None
    if wide is not None and wide < 2:
        return None
    return DetectionOutputs(logits.name, boxes.name, None if wide is None else wide - 1)


def what_is_given(maps: Sequence[Map]) -> tuple[str, str]:
    """What a model of maps gives, in a word, and the class of `vit_edge` that opens it."""
    return ("maps", "Segmenter") if detection_outputs(maps) is None else ("boxes", "Detector")


def boxes_among(outputs: Sequence[OutputShape]) -> DetectionOutputs | None:
    """The same of a graph's outputs, whose first axis is that of images."""
    floats = [each for each in outputs if each.is_float and each.dims is not None]
    return detection_outputs([Map(each.name, (each.dims or ())[1:]) for each in floats])


def gives_maps(outputs: list[OutputShape], wanted: str | None, said: OutputKind | None = None) -> bool:
    """Whether a graph gives maps: by what is said, by the output that is named, or as nothing else is there.

    Args:
        outputs: all outputs of a graph.
        wanted: the name of the one that holds the answers, where the caller states it.
        said: what its numbers mean, where that is stated.
    """
    if said is not None:
        return said is OutputKind.MAP
    if wanted is None and boxes_among(outputs) is not None:
        return True
    named = [each for each in outputs if wanted in (None, each.name)]
    rows = [each for each in named if each.is_float and (each.dims is None or len(each.dims) <= 2)]
    return not rows and any(_is_map(each) for each in named)


def chosen_map(outputs: list[OutputShape], wanted: str | None) -> str:
    """The name of the output that is shown and judged first among those of a model of maps.

    Raises:
        ValueError: there is no such output, or none of floating-point numbers with axes of its own.
    """
    shown = ", ".join(f"{each.name} {dims_text(each)}" for each in outputs[:8])
    if wanted is not None and wanted not in [each.name for each in outputs]:
        raise ValueError(f"has no output {wanted!r}; --output can name one of: {shown}")
    detects = boxes_among(outputs)
    if wanted is None and detects is not None:
        return detects.logits
    named = [each for each in outputs if wanted in (None, each.name)]
    maps = [each for each in named if _is_map(each)]
    others = [each for each in named if each.is_float and each.dims is not None and len(each.dims) > 2]
    found = maps or others
    if not found:
        raise ValueError(
            f"has the outputs {shown}; a map has floating-point numbers (N, channels, rows, columns)"
        )
    return found[0].name


def _is_map(shape: OutputShape) -> bool:
    return shape.is_float and shape.dims is not None and len(shape.dims) == 4 and shape.dims[2:] != (1, 1)


def dims_text(shape: OutputShape) -> str:
    """Its shape, for a message."""
    if shape.dims is None:
        return "(unknown shape)"
    return f"({', '.join('?' if dim is None else str(dim) for dim in shape.dims)})"
