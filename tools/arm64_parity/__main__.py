"""INT8 and float models of a bundle on emulated Arm cores, against this machine.

Usage: python -m tools.arm64_parity BUNDLE --images DIR [--count N] [--model FILE ...] -o FILE.json

Needs root, debootstrap and qemu-user-static. The file keeps one entry per bundle, by the name of its source:
for every core and model the share of images with the same top-1, the largest difference of a logit, and the
share of images whose logits have the same bits. Emulated time says nothing about a board, so none is given.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tools.arm64_parity.emulator import (
    CORES_TESTED,
    Answers,
    Core,
    Job,
    logits_of,
    run_emulated,
    run_here,
    version_of,
)
from tools.arm64_parity.root import EMULATOR, default_cache, ensure_root, python_of
from vit_edge import read_bundle
from vit_edge.bundle import Bundle
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        bundle = read_bundle(given.bundle)
        record = compared(bundle, _models(bundle, given.model), given)
        merge(given.output, given.name or bundle.manifest.source.name, record)
    except VitEdgeError as error:
        print(f"arm64_parity: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record["cores"], indent=1))
    return 0


def compared(bundle: Bundle, models: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """The figures of every core and model."""
    root = ensure_root(given.cache)
    images = list_images(given.images).limited(given.count).paths
    jobs = {name: Job(bundle.path / name, images) for name in models}
    here = {name: run_here(job) for name, job in jobs.items()}
    cores: dict[str, Any] = {}
    for core in CORES_TESTED:
        for name, job in jobs.items():
            print(f"{core.name}: {name}, {len(images)} images", file=sys.stderr, flush=True)
            there = run_emulated(root, core, job)
            cores.setdefault(core.name, _about(core, there))["models"][name] = figures(here[name], there)
    return {
        "images": len(images),
        "reference": describe_machine().to_json(),
        "emulator": version_of(EMULATOR),
        "python": python_of(root),
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "pillow")},
        "cores": cores,
    }


def figures(here: Answers, there: Answers) -> dict[str, Any]:
    """How two answers to the same images differ; shares in percent."""
    expected, found = logits_of(here), logits_of(there)
    shares = {
        "agreement": expected.argmax(axis=1) == found.argmax(axis=1),
        "identical_logits": (expected == found).all(axis=1),
        "identical_pixels": np.asarray(here["pixels"]) == np.asarray(there["pixels"]),
    }
    return {
        **{name: round(float(100 * np.mean(same)), 2) for name, same in shares.items()},
        "same_label": here["label"] == there["label"],
        "largest_logit_difference": float(f"{np.abs(expected - found).max():.3g}"),
        "largest_logit": float(f"{np.abs(expected).max():.3g}"),
    }


def _about(core: Core, answers: Answers) -> dict[str, Any]:
    return {"example": core.example, "flags": answers["machine"]["flags"], "models": {}}


def _models(bundle: Bundle, asked: list[str]) -> list[str]:
    """The model files to run: those asked for, or all.

    Raises:
        UsageError: one is not in the bundle.
    """
    known = [str(name) for name in bundle.models()]
    for name in asked:
        if name not in known:
            raise UsageError(f"{bundle.path} has no model {name}; it has {', '.join(known)}")
    return asked or known


def merge(path: Path, source: str, record: dict[str, Any]) -> None:
    """Write the record under the source's name, beside those of other sources.

    Raises:
        UsageError: the file cannot be written, or is no JSON object.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        text = json.dumps(known | {source: record}, indent=1, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be updated ({error}): name a JSON file of this tool") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="arm64_parity", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=50, help="images used at most, spread over the folder")
    parser.add_argument("--model", action="append", default=[], metavar="FILE", help="of the bundle; all")
    parser.add_argument("--name", help="of the entry in the file (default: the name of the bundle's source)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where the root is kept")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file, updated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
