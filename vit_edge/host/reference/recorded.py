"""References that the user brings: predictions in a CSV or JSON file, or a Python callable."""

import csv
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.reference.types import Answer, Reference
from vit_edge.host.sources.own_code import PATTERN, current_directory_importable

_COLUMNS = ("path", "label", "probability")


class Recorded(Reference):
    """Predictions made elsewhere.

    A CSV file has the columns path, label and, if known, probability (0 to 1); a JSON file is a list of
    objects with these keys. Paths are relative to the folder of images, or absolute.

    Args:
        file: `.csv` or `.json`.
        images: the folder of images.

    Raises:
        SourceError: a file that cannot be read, has no predictions, or one that is malformed.
    """

    def __init__(self, file: Path, images: Path) -> None:
        rows = _json_rows(file) if file.suffix == ".json" else _csv_rows(file)
        if not rows:
            raise SourceError(f"{file} holds no predictions: write one for each image")
        self._answers = {}
        for number, row in enumerate(rows, 1):
            where = f"{file}, prediction {number}"
            if not isinstance(row.get("path"), str) or not row["path"]:
                raise SourceError(f"{where} has no path: name its image file")
            self._answers[(images / row["path"]).resolve()] = _answer(
                row.get("label"), row.get("probability"), where
            )
        self.name = f"predictions in {file.name}"

    def __contains__(self, path: Path) -> bool:
        return path.resolve() in self._answers

    def answer(self, path: Path) -> Answer:
        """What the file says of this image."""
        if path not in self:
            raise SourceError(f"{self.name} lack {path.name}: add it, or leave the image out")
        return self._answers[path.resolve()]


class Called(Reference):
    """A function of the user's: from the path of an image file to its answer.

    It returns all probabilities as a sequence in index order, or as a mapping from label to probability, or a
    pair of label and probability.

    Args:
        text: `module:callable`.

    Raises:
        SourceError: it cannot be imported or is no function.
    """

    def __init__(self, text: str) -> None:
        module, _, attribute = text.partition(":")
        with current_directory_importable():
            try:
                function: Callable[[str], object] = getattr(importlib.import_module(module), attribute)
            except Exception as error:  # someone else's code may raise anything
                raise SourceError(f"{text} cannot be imported ({type(error).__name__}: {error})") from error
        if not callable(function):
            raise SourceError(f"{text} is no function: it must take the path of an image file")
        self._function = function
        self.name = text

    def answer(self, path: Path) -> Answer:
        """What the function says of this image."""
        try:
            said = self._function(str(path))
        except Exception as error:
            raise SourceError(
                f"{self.name} fails on {path.name} ({type(error).__name__}: {error})"
            ) from error
        where = f"{self.name} on {path.name}"
        if isinstance(said, Mapping):
            if not said:
                raise SourceError(f"{where} gives no class")
            label = max(said, key=lambda name: _probability(said[name], where))
            return _answer(label, said[label], where)
        if isinstance(said, tuple) and len(said) == 2 and isinstance(said[0], str):
            return _answer(*said, where)
        return _of_all(said, where)


def user_reference(text: str, images: Path, trust_code: bool) -> Reference:
    """The reference that `--reference` names: a CSV or JSON file, or `module:callable`.

    Raises:
        SourceError: it cannot be read or imported.
        UsageError: none of these, or code that is not trusted.
    """
    path = Path(text)
    if path.suffix in (".csv", ".json"):
        return Recorded(path, images)
    if not PATTERN.fullmatch(text):
        raise UsageError(f"--reference {text} is no .csv or .json file of predictions and no module:callable")
    if not trust_code:
        raise UsageError(
            f"--reference {text} runs the code of that module: pass --trust-code if you trust it"
        )
    return Called(text)


def _csv_rows(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows: list[dict[str, Any]] = list(reader)
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({error.strerror}): check the path") from None
    except (ValueError, csv.Error) as error:
        raise SourceError(f"{file} is no CSV file in UTF-8 ({error}): write it again") from None
    lacking = [name for name in _COLUMNS[:2] if name not in (reader.fieldnames or ())]
    if lacking:
        raise SourceError(f"{file} lacks the column {lacking[0]}: its columns are path, label, probability")
    return rows


def _json_rows(file: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({error.strerror}): check the path") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{file} is not JSON: write it again") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{file} must be a list of objects with path, label and probability")
    return rows


def _answer(label: object, probability: object, where: str) -> Answer:
    if not isinstance(label, str | int) or isinstance(label, bool) or label == "":
        raise SourceError(f"{where} has no label: name its class, or give its index")
    stated = None if probability in (None, "") else _probability(probability, where)
    return Answer(str(label), None, stated)


def _of_all(said: Any, where: str) -> Answer:
    values = list(said) if isinstance(said, Sequence | np.ndarray) and not isinstance(said, str) else []
    if not values:
        raise SourceError(
            f"{where} gives a {type(said).__name__}: it must give all probabilities, a mapping from label to "
            "probability, or a pair of both"
        )
    scores = np.array([_probability(value, where) for value in values])
    best = int(scores.argmax())
    return Answer(None, best, float(scores[best]), scores)


def _probability(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1 + 1e-6:
        raise SourceError(f"{where} has the probability {value!r}, which is no number from 0 to 1")
    return number
