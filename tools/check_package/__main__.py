"""Packs a bundle for Node and for the web, runs both on image files, and compares them with Python.

A third home, transformers.js, opens the bundle as it is. The packages of npm come from
`python -m tools.check_package.modules`.

Usage: python -m tools.check_package BUNDLE --images DIR [--count N] [--home NAME ...] -o FILE.json

The float file is held against `Classifier(..., decoding="exact")`. The INT8 file is, too, and against Python
in exact arithmetic: JavaScript engines add products exactly, while onnxruntime on a CPU that adds pairs in 16
bits does not. A home gives its first five classes; probabilities of these are compared. Node's resize of a
picture of 12 megapixels is timed. onnxruntime for both comes from `python -m tools.engines --prepare`.
"""

import argparse
import importlib.metadata
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.check_package.browser import CHROMIUM, visit
from tools.check_package.modules import link_modules, onnxruntime_modules, sharp_module, transformers_module
from tools.engines.catalogue import default_cache
from tools.engines.table import probabilities
from tools.saturation_check import exact_logits
from vit_edge import Classifier
from vit_edge.bundle import Role, read_bundle
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.package.homes import Home, package
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.model.file import read_model

ROLES = {"float": Role.FLOAT, "int8": Role.QUANTIZED}
TOP = 5
RESIZES = 5
LARGE = (4000, 3000)  # width and height of 12 megapixels

Scores = dict[str, float]  # label to probability, the likeliest first


class Answered(NamedTuple):
    """What one home answered: per file ("float", "int8") the scores of every image."""

    version: str
    scores: dict[str, list[Scores]]
    more: dict[str, Any]


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        record = checked(given.bundle, given.images, given.count, given.home or list(HOMES), given.cache)
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except (VitEdgeError, OSError) as error:
        print(f"check_package: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record["homes"], indent=1))
    return 0


def checked(bundle: Path, folder: Path, count: int, homes: Sequence[str], cache: Path) -> dict[str, Any]:
    """The figures of every home.

    Raises:
        UsageError: a home cannot be run here.
        BundleError, ModelError: the bundle is not one that can be packed.
    """
    manifest = read_bundle(bundle).manifest
    listed = list_images(folder).paths
    paths = listed[:: max(1, len(listed) // count)][:count]
    expected = {file: _by_classifier(bundle, role, paths) for file, role in ROLES.items()}
    exact = _in_exact_arithmetic(bundle, paths)
    rows: dict[str, Any] = {}
    for home in homes:
        print(f"{home}: {len(paths)} images", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="check-package-") as work:
            found = HOMES[home](bundle, paths, Path(work), cache)
        rows[home] = {"version": found.version}
        for file, scores in found.scores.items():
            rows[home][file] = closeness(scores, expected[file])
        rows[home]["int8 against exact arithmetic"] = closeness(found.scores["int8"], exact)
        rows[home] |= found.more
    return {
        "model": {"name": manifest.source.name, "sha256": manifest.source.sha256},
        "files": {role.value: read_model(bundle, role).sha256 for role in ROLES.values()},
        "images": {"folder": folder.resolve().name, "count": len(paths)},
        "machine": describe_machine().to_json(),
        "pillow": importlib.metadata.version("pillow"),
        "homes": rows,
    }


def closeness(found: Sequence[Scores], expected: Sequence[Scores]) -> dict[str, float]:
    """Images with the same first label, of how many, and the largest difference of a probability."""
    same = sum(next(iter(mine)) == next(iter(theirs)) for mine, theirs in zip(found, expected, strict=True))
    difference = max(
        abs(score - theirs[label])
        for mine, theirs in zip(found, expected, strict=True)
        for label, score in mine.items()
    )
    return {
        "same_label": same,
        "images": len(expected),
        "largest_probability_difference": float(f"{difference:.2g}"),
    }


def by_label(answers: Sequence[tuple[str, float]]) -> Scores:
    """Of classes that have one name the likeliest, which comes first."""
    found: Scores = {}
    for label, score in answers:
        found.setdefault(label, score)
    return found


def _by_classifier(bundle: Path, role: Role, paths: Sequence[Path]) -> list[Scores]:
    classify = Classifier(bundle, "cpu", threads=1, decoding="exact", model=role)
    count = len(classify.labels or ())
    return [by_label([(each.label, each.score) for each in classify(path, top_k=count)]) for path in paths]


def _in_exact_arithmetic(bundle: Path, paths: Sequence[Path]) -> list[Scores]:
    model = read_model(bundle, Role.QUANTIZED)
    if model.labels is None:
        raise UsageError(f"{model.path} has no labels")
    scores = probabilities(exact_logits(model.path, paths))
    rows = [[(model.labels[index], float(row[index])) for index in np.argsort(-row)] for row in scores]
    return [by_label(row) for row in rows]


def in_node(bundle: Path, paths: Sequence[Path], work: Path, cache: Path) -> Answered:
    """The package for Node, run by Node."""
    modules = onnxruntime_modules(cache)
    app = work / "app"
    package(bundle, Home.NODE, app)
    link_modules(app, modules / "onnxruntime-node", sharp_module(cache))
    job = {"paths": [str(path.resolve()) for path in paths], "top": TOP, "size": LARGE, "times": RESIZES}
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    made = _by_node("in_node.mjs", app, work / "job.json")
    seconds = [round(ms / 1000, 3) for ms in made["resize_ms"]]
    more = {"resize_of_12_megapixels_s": {"median": statistics.median(seconds), "each": seconds}}
    return Answered(f"{made['version']}, Node {made['node']}", _scores(made), more)


def in_browser(bundle: Path, paths: Sequence[Path], work: Path, cache: Path) -> Answered:
    """The site, used in headless Chromium as a person would."""
    if CHROMIUM is None:
        raise UsageError("the web needs chromium or chrome")
    modules, site = onnxruntime_modules(cache), work / "site"
    package(bundle, Home.WEB, site, modules)
    seen = visit(site, paths, list(ROLES), timeout=60 + 4 * len(paths))
    if seen.result.get("error") is not None or seen.result["errors"] or "CONSOLE" in seen.log:
        raise UsageError(f"the site failed: {seen.result.get('error') or seen.result['errors'] or seen.log}")
    scores: dict[str, list[Scores]] = {file: [] for file in ROLES}
    for each in seen.result["found"]:
        if not each["answers"]:
            raise UsageError(f"{paths[each['index']]} has no answer: {each['text']}")
        scores[each["file"]].append(by_label([(row["label"], row["score"]) for row in each["answers"]]))
    release = json.loads((modules / "onnxruntime-web" / "package.json").read_text(encoding="utf-8"))
    said = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=False).stdout.split()
    number = next((word for word in said if word[0].isdigit()), "")
    return Answered(f"onnxruntime-web {release['version']}, Chromium {number}", scores, {})


def in_transformers_js(bundle: Path, paths: Sequence[Path], work: Path, cache: Path) -> Answered:
    """The bundle's folder, opened by Hugging Face's transformers.js in Node, with its own preprocessing."""
    module = transformers_module(cache)
    job = {"paths": [str(path.resolve()) for path in paths], "top": TOP}
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    made = _by_node("in_transformers_js.mjs", module.parents[1], bundle.resolve(), work / "job.json")
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    labels = Classifier(bundle, "cpu", threads=1).labels or ()
    for answer in itertools.chain.from_iterable(made["answers"].values()):
        for each in answer:  # its names are unique, those of the model need not be
            each["label"] = labels[config["label2id"][each["label"]]]
    return Answered(f"{made['version']}, Node {made['node']}", _scores(made), {})


def _by_node(script: str, *words: Path) -> dict[str, Any]:
    """What a script beside this file prints as JSON."""
    place = Path(__file__).with_name(script)
    done = subprocess.run(["node", place, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"Node failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _scores(made: dict[str, Any]) -> dict[str, list[Scores]]:
    return {
        file: [by_label([(each["label"], each["score"]) for each in answer]) for answer in answers]
        for file, answers in made["answers"].items()
    }


HOMES: dict[str, Callable[[Path, Sequence[Path], Path, Path], Answered]] = {
    "node": in_node,
    "web": in_browser,
    "transformers.js": in_transformers_js,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="check_package", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--images", type=Path, metavar="DIR", required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="use N of them, spread evenly")
    parser.add_argument("--home", action="append", choices=list(HOMES), help="this one only")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="environments")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
