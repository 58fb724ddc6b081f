"""Class names: from a file, from a Hugging Face config, or placeholders that say so."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.files import read_text
from vit_edge.host.sources.jsonfile import read_any

_MAX_BYTES = 64 * 2**20  # of a labels file

PLACEHOLDER_NOTE = (
    "the source names no classes, so they are called by their index: pass a labels file to name them"
)


def choose_labels(
    file: Path | None, stated: tuple[str, ...] | None, classes: int, where: str
) -> tuple[tuple[str, ...], str]:
    """The labels file's names, else the source's, else "class 0", "class 1" ...; with a note on placeholders.

    A head of one number may have two names, for no and yes.

    Raises:
        SourceError: a labels file that cannot be read, or more or fewer names than classes.
    """
    if file is not None:
        labels, origin = read_labels(file), str(file)
    elif stated is not None:
        labels, origin = stated, where
    else:
        return tuple(f"class {index}" for index in range(classes)), PLACEHOLDER_NOTE
    if len(labels) != classes and (len(labels), classes) != (2, 1):
        head = "its head" if origin == where else f"the head of {where}"
        raise SourceError(
            f"{origin} names {len(labels)} classes but {head} has {classes}: pass a labels file that fits"
        )
    return labels, ""


def read_labels(path: Path) -> tuple[str, ...]:
    """One name per line, or for `.json` a list of names or an object from index to name.

    Raises:
        SourceError: unreadable, empty names, or indices that do not count from 0.
    """
    if path.suffix == ".json":
        value = read_any(path)
        if isinstance(value, Mapping):
            return from_id2label(value, str(path))
        names = value if isinstance(value, list) else []
    else:
        names = _lines(path)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SourceError(f"{path} must name every class: one name per line, no empty line between")
    return tuple(names)


def from_id2label(value: object, where: str) -> tuple[str, ...]:
    """Names in index order from {"0": name, "1": name, ...} or a list; SourceError if it is neither."""
    if isinstance(value, list) and value:
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value.values()):
        raise SourceError(f"{where}: id2label must be an object from class index to name, got {value!r:.80}")
    by_index = {str(key): name for key, name in value.items()}
    expected = [str(index) for index in range(len(by_index))]
    if set(by_index) != set(expected):
        raise SourceError(f"{where}: id2label must count from 0 to {len(by_index) - 1} without a gap")
    return tuple(by_index[index] for index in expected)


def label_maps(labels: tuple[str, ...]) -> dict[str, Any]:
    """`id2label` and `label2id` as a Hugging Face config has them, which cannot tell equal names apart."""
    names = unique(labels)
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names that occur once; of equal ones each has its index behind it: "crane (134)"."""
    counts = Counter(labels)
    names = [name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(labels)]
    return tuple(names) if len(set(names)) == len(names) else unique(tuple(names))


def _lines(path: Path) -> list[str]:
    try:
        text = read_text(path, _MAX_BYTES)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): pass a labels file") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not UTF-8 text: save the labels as UTF-8, one name per line") from None
    return [line.strip() for line in text.rstrip().splitlines()]
