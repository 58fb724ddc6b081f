"""From what people write on folders and in label files to the model's class indices."""

import dataclasses
import enum
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vit_edge.errors import DatasetError
from vit_edge.files import read_text

_MAX_BYTES = 64 * 2**20  # of a file of class ids


class NamingScheme(enum.Enum):
    """What a set of folder names can be; the value says it in a message."""

    LABEL = "label names"
    CLASS_ID = "class ids"
    INDEX = "class indices"


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The model's labels in index order and, where known, their ids (for ImageNet, WordNet ids).

    Either may be None; class indices can be read in any case.
    """

    labels: tuple[str, ...] | None
    class_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse ids that cannot belong to the labels."""
        if self.labels and self.class_ids and len(self.labels) != len(self.class_ids):
            raise DatasetError(
                f"the model has {len(self.labels)} labels but the class id file lists {len(self.class_ids)}; "
                "give the file that belongs to this model"
            )

    @property
    def classes(self) -> int | None:
        """Number of classes, where known."""
        known = self.labels or self.class_ids
        return len(known) if known else None

    def match_folders(self, names: Iterable[str], where: Path) -> dict[str, int]:
        """Give every folder name its class index, all by the same scheme.

        Label names are tried first, then class ids, then indices. A label name matches exactly, or else
        after `normalized`, or else by the first of its comma-separated synonyms.

        Args:
            names: folder names.
            where: the folder that holds them, for the message.

        Raises:
            DatasetError: no scheme fits all names, a name fits several labels, or two fit one.
        """
        folders = sorted(names)
        tries = {scheme: self._match_all(folders, scheme) for scheme in NamingScheme}
        best = max(tries, key=lambda scheme: len(tries[scheme]))  # of equals the first, in enum order
        found = tries[best]
        unmatched = [name for name in folders if name not in found]
        if unmatched:
            raise DatasetError(self._unmatched(unmatched, folders, best, where))
        owners: dict[int, str] = {}
        for name, index in found.items():
            if index in owners:
                raise DatasetError(
                    f"folders {owners[index]!r} and {name!r} in {where} both mean class {index}; merge them"
                )
            owners[index] = name
        return found

    def cell_reader(self) -> Callable[[str], int | None]:
        """A function from a label file's cell to its class: a label name, a class id, or a class index."""
        finders = [self._finder(scheme) for scheme in NamingScheme]

        def read(cell: str) -> int | None:
            return next((index for find in finders if (index := find(cell)) is not None), None)

        return read

    def _match_all(self, names: Sequence[str], scheme: NamingScheme) -> dict[str, int]:
        find = self._finder(scheme)
        return {name: index for name in names if (index := find(name)) is not None}

    def _finder(self, scheme: NamingScheme) -> Callable[[str], int | None]:
        if scheme is NamingScheme.INDEX:
            return self._as_index
        if scheme is NamingScheme.CLASS_ID:
            ids = {class_id: index for index, class_id in enumerate(self.class_ids or ())}
            return ids.get
        return _label_finder(self.labels or ())

    def _as_index(self, text: str) -> int | None:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            return None
        index = int(text)
        return index if self.classes is None or index < self.classes else None

    def _unmatched(self, unmatched: list[str], names: list[str], best: NamingScheme, where: Path) -> str:
        shown = ", ".join(map(repr, unmatched[:5])) + (", ..." if len(unmatched) > 5 else "")
        doubtful = [name for name in unmatched if self._is_ambiguous(name)]
        if doubtful:
            return (
                f"folder {doubtful[0]!r} in {where} fits more than one of the model's labels; "
                "name the folders by class id or class index"
            )
        if self.classes is None:
            return (
                f"folders {shown} in {where} cannot be matched, as the model carries no labels; "
                "name them by class index, or give a file of class ids"
            )
        matched = len(names) - len(unmatched)
        by = f" as {best.value}" if matched else ""
        return (
            f"{len(unmatched)} of {len(names)} folders in {where} match none of the model's {self.classes} "
            f"classes{by}: {shown}; rename them, add a labels.csv, or give a file of class ids"
        )

    def _is_ambiguous(self, name: str) -> bool:
        return any(len(index.get(key(name), ())) > 1 for key, index in _label_indices(self.labels or ()))


def normalized(name: str) -> str:
    """The name without what people differ in: case, underscores, hyphens, spaces, the form of accents."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def read_class_ids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a file with one class per line in index order: its id, then whatever else.

    This is the form of ImageNet's `LOC_synset_mapping.txt` and of most `imagenet_classes.txt` files with
    WordNet ids (`n01440764 tench, Tinca tinca`).

    Raises:
        DatasetError: the file cannot be read, is empty or repeats an id; the message names the line.
    """
    source = Path(path)
    try:
        lines = read_text(source, _MAX_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"cannot read the class id file {source}: {getattr(error, 'strerror', None) or error}; "
            "give a UTF-8 text file"
        ) from None
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            raise DatasetError(
                f"line {number} of the class id file {source} is empty; give one class per line"
            )
        if fields[0] in ids:
            raise DatasetError(
                f"lines {ids[fields[0]]} and {number} of the class id file {source} both hold {fields[0]!r}; "
                "give one id per class"
            )
        ids[fields[0]] = number
    if not ids:
        raise DatasetError(f"the class id file {source} is empty; give one class per line")
    return tuple(ids)


_Key = Callable[[str], str]


def _same(name: str) -> str:
    return name


def _label_indices(labels: Sequence[str]) -> list[tuple[_Key, dict[str, list[int]]]]:
    """From the strictest way of comparing to the loosest: how to key a name, and the labels so keyed."""
    ways: list[tuple[_Key, _Key]] = [
        (_same, _same),
        (normalized, normalized),
        (normalized, lambda label: normalized(label.split(",")[0])),
    ]
    indices = []
    for key_of_name, key_of_label in ways:
        index: dict[str, list[int]] = {}
        for position, label in enumerate(labels):
            index.setdefault(key_of_label(label), []).append(position)
        indices.append((key_of_name, index))
    return indices


def _label_finder(labels: Sequence[str]) -> Callable[[str], int | None]:
    indices = _label_indices(labels)

    def find(name: str) -> int | None:
        for key, index in indices:
            positions = index.get(key(name), [])
            if positions:
                return positions[0] if len(positions) == 1 else None
        return None

    return find
