"""The accuracy that a model's own card states, to compare the float model with."""

import re
from pathlib import Path

CARD = "README.md"
_MOST = 1 << 20  # bytes of a card that are read
# a Hugging Face model card: front matter between lines of ---, in it a model-index with metrics
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_ACCURACY = re.compile(
    r"type:\s*[\"']?(?:accuracy|top-?1(?:[ _-]accuracy)?)[\"']?\s*\n"
    r"(?:(?!\s*-\s).*\n){0,4}?\s*value:\s*([0-9.]+)",
    re.IGNORECASE,
)


def stated_accuracy(source: str) -> float | None:
    """Top-1 in percent by the model-index of a folder's card; None where it states none, or several.

    Args:
        source: what was given as the source; only a folder has a card.
    """
    card = Path(source) / CARD
    try:
        if not card.is_file():
            return None
        with card.open("rb") as file:
            text = file.read(_MOST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    front = _FRONT.match(text.replace("\r\n", "\n"))
    found = (
        [] if front is None else [float(each) for each in _ACCURACY.findall(f"{front[1]}\n") if _number(each)]
    )
    percent = {100.0 * each if each <= 1.0 else each for each in found}
    stated = percent.pop() if len(percent) == 1 else None
    return stated if stated is not None and 0.0 < stated <= 100.0 else None


def _number(text: str) -> bool:
    return text.count(".") <= 1 and text != "."
