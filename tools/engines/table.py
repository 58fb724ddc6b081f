"""Figures of one engine, and the table of all of them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.engines.job import Answers, Floats
from vit_edge.errors import UsageError
from vit_edge.verify.metrics import logit_sqnr_db

FLOAT, INT8 = 0, 1  # places of the models in a job


def figures(found: Answers, reference: Answers) -> dict[str, Any]:
    """What is recorded of one engine; the reference is onnxruntime here, in exact arithmetic.

    Raises:
        UsageError: the reference did not run.
    """
    record: dict[str, Any] = {"version": found.version}
    for place, name in ((FLOAT, "float"), (INT8, "int8")):
        mine, theirs = found.models[place], reference.models[place].logits
        if theirs is None:
            raise UsageError(f"the reference does not run the {name} model: {reference.models[place].error}")
        record[name] = {"loads": mine.error is None, "error": mine.error}
        if mine.logits is not None:
            record[name] |= closeness(mine.logits, theirs) | {"sqnr_db": sqnr_db(mine.logits, theirs)}
    exact, int8 = reference.models[FLOAT].logits, found.models[INT8].logits
    if exact is not None and int8 is not None:
        record["int8"]["same_class_as_float"] = closeness(int8, exact)["same_class"]
    ms = [np.asarray(model.ms) for model in found.models]
    record["int8_to_float_latency"] = None
    if all(len(each) for each in ms):
        record["int8_to_float_latency"] = round(float(np.median(ms[INT8] / ms[FLOAT])), 3)
    return record


def closeness(found: Floats, reference: Floats) -> dict[str, float]:
    """Percent of images with the same class, and the largest difference of a probability."""
    same = found.argmax(axis=1) == reference.argmax(axis=1)
    difference = np.abs(probabilities(found) - probabilities(reference)).max()
    return {
        "same_class": round(float(100 * same.mean()), 2),
        "largest_probability_difference": float(f"{difference:.3g}"),
    }


def sqnr_db(found: Floats, reference: Floats) -> float | None:
    """Signal to noise ratio of logits, dB; None where every bit is the same."""
    ratio = logit_sqnr_db(reference, found)
    return round(ratio, 1) if math.isfinite(ratio) else None


def probabilities(logits: Floats) -> np.ndarray:
    """Softmax in float64, (N, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def markdown(record: Mapping[str, Any]) -> str:
    """The table of one record of `python -m tools.engines`."""
    machine = record["machine"]
    cpu = f"{machine['cpu']} ({', '.join(machine['flags'])})"
    lines = [
        f"{record['images']} images, {cpu}, one thread; probabilities of the INT8 file "
        "against onnxruntime in exact arithmetic here; dB of the logits against the same",
        "",
        "| engine | float loads | INT8 loads | float | INT8 | same class | largest probability difference "
        "| as float | INT8 to float |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["engines"].items():
        if "skipped" in row:
            lines.append(f"| {name} | not run: {row['skipped']} | | | | | | | |")
            continue
        int8, ratio = row["int8"], row["int8_to_float_latency"]
        loads = ["yes" if row[kind]["loads"] else f"no: {row[kind]['error']}" for kind in ("float", "int8")]
        close = ["", "", ""]
        if int8["loads"]:
            close = [f"{int8['same_class']} %", f"{int8['largest_probability_difference']}"]
            close.append(f"{int8['same_class_as_float']} %")
        noise = [_noise(row[kind]) for kind in ("float", "int8")]
        cells = [*loads, *noise, *close, "" if ratio is None else f"{ratio:.2f}"]
        cells = [cell.replace("|", "/") for cell in cells]
        lines.append(f"| {row['version']} ({name}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _noise(form: Mapping[str, Any]) -> str:
    """Decibels of one file's logits, where it runs."""
    if not form["loads"]:
        return ""
    return "same bits" if form["sqnr_db"] is None else f"{form['sqnr_db']:.1f} dB"


def read_record(path: Path) -> dict[str, Any]:
    """A file that the tool wrote.

    Raises:
        UsageError: it is none.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        markdown(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no record of this tool ({error})") from None
    return record
