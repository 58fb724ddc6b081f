"""Which outputs of a graph are maps: a number for every place of an image."""

import dataclasses

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


def gives_maps(outputs: list[OutputShape], wanted: str | None, said: OutputKind | None = None) -> bool:
    """Whether a graph gives maps: by what is said, by the output that is named, or as nothing else is there.

    Args:
        outputs: all outputs of a graph.
        wanted: the name of the one that holds the answers, where the caller states it.
        said: what its numbers mean, where that is stated.
    """
    if said is not None:
        return said is OutputKind.MAP
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
