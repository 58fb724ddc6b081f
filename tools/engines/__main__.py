"""Runs the float and the INT8 file of a bundle in many engines.

Usage: python -m tools.engines BUNDLE --images DIR [--count N] [--engine NAME ...] -o FILE.json
       python -m tools.engines --prepare
       python -m tools.engines --table FILE.json

For each engine: do the files load, for how many images does it name the same class as onnxruntime here in
exact arithmetic (on x86-64 that is session.x64quantprecision), by how much does a probability differ at most,
and how long does INT8 take against float (one thread, one image, rounds in turn). Each engine runs in an
environment of its own, made by --prepare with pip or npm in the user's cache. An output that exists keeps its
rows of other engines.

The last rows are onnxruntime here once more, with gains and shifts of normalizations off by a few units in
the last place of float32: what float operators that round otherwise do by themselves. An engine whose float
logits lie as far away cannot answer closer in INT8.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tools.engines.catalogue import ENGINES, WORKERS, Engine, default_cache
from tools.engines.job import Answers, lay_out, run
from tools.engines.rounding import Rounding
from tools.engines.table import figures, markdown, read_record
from vit_edge.bundle import Role, read_bundle
from vit_edge.errors import ModelError, UsageError, VitEdgeError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import ModelFile, read_model

EXACT = {"session.x64quantprecision": "1"}
ROUNDINGS = tuple(Rounding(ulp, seed) for ulp in (1.0, 4.0, 16.0) for seed in (0, 1))


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        if given.table is not None:
            print(markdown(read_record(given.table)))
            return 0
        engines = chosen(given.engine)
        if given.prepare:
            return prepared(engines, given.cache)
        if given.bundle is None or given.images is None or given.output is None:
            raise UsageError("name a bundle, --images and -o, or pass --prepare or --table")
        record = compared(given, engines)
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except (VitEdgeError, OSError) as error:
        print(f"engines: {error}", file=sys.stderr)
        return 2
    print(markdown(record))
    return 0


def chosen(names: Sequence[str]) -> list[Engine]:
    """The engines of these names, all by default.

    Raises:
        UsageError: an unknown name.
    """
    known = {engine.name: engine for engine in ENGINES}
    for name in names:
        if name not in known:
            raise UsageError(f"no engine is called {name!r}; known are {', '.join(known)}")
    return [known[name] for name in names] or list(ENGINES)


def prepared(engines: Sequence[Engine], cache: Path) -> int:
    """Make every environment that can be made; 2 where one could not."""
    status = 0
    for engine in engines:
        try:
            engine.prepare(cache)
            print(f"{engine.name}: {engine.place(cache)}")
        except UsageError as error:
            print(f"engines: {engine.name}: {error}", file=sys.stderr)
            status = 2
    return status


def compared(given: argparse.Namespace, engines: Sequence[Engine]) -> dict[str, Any]:
    """The figures of every engine, and those of others that the output has.

    Raises:
        UsageError: the output is of other files, images, machine or onnxruntime, which is found out first.
    """
    bundle = read_bundle(given.bundle)
    models = [read_model(given.bundle, role) for role in (Role.FLOAT, Role.QUANTIZED)]
    spec = bundle.manifest.preprocess
    paths = list_images(given.images).limited(given.count).paths
    record = {
        "model": {"name": bundle.manifest.source.name, "sha256": bundle.manifest.source.sha256},
        "files": {model.path.name: model.sha256 for model in models},
        "images": len(paths),
        "machine": describe_machine().to_json(),
        "reference": f"onnxruntime {onnxruntime.__version__}",
        "engines": {},
    }
    if given.output.exists():
        record = joined(read_record(given.output), record)
    pixels = np.stack([load_pixels(path, spec) for path in paths])
    with tempfile.TemporaryDirectory(prefix="engines-") as work:
        rows = measured(models, pixels, engines, given, Path(work))
    return joined(record, {**record, "engines": rows})


def measured(
    models: Sequence[ModelFile],
    pixels: npt.NDArray[np.uint8],
    engines: Sequence[Engine],
    given: argparse.Namespace,
    work: Path,
) -> dict[str, Any]:
    """The row of each engine, and of onnxruntime here with other roundings."""

    def here(files: Sequence[ModelFile], name: str, rounds: int) -> Answers:
        print(f"{name}: {len(pixels)} images", file=sys.stderr, flush=True)
        command = [sys.executable, str(WORKERS / "onnxruntime_wheel.py")]
        return answered(command, files, pixels, rounds, work / name.replace(" ", "-"), EXACT)

    reference = here(models, "reference", given.rounds)
    if any(model.error is not None for model in reference.models):
        raise ModelError(f"onnxruntime here: {next(m.error for m in reference.models if m.error)}")
    rows: dict[str, Any] = {}
    for index, engine in enumerate(engines):
        reason = engine.missing(given.cache)
        if reason is not None:
            rows[engine.name] = {"skipped": reason}
            continue
        print(f"{engine.name}: {len(pixels)} images", file=sys.stderr, flush=True)
        found = answered(engine.command(given.cache), models, pixels, given.rounds, work / str(index))
        rows[engine.name] = figures(found, reference)
    for each in () if given.engine else ROUNDINGS:
        untimed = here([each.of(model) for model in models], each.name, 0)
        rows[each.name] = figures(untimed, reference)
    return rows


def answered(
    command: Sequence[str],
    models: Sequence[ModelFile],
    pixels: npt.NDArray[np.uint8],
    rounds: int,
    place: Path,
    extra: Mapping[str, str] | None = None,
) -> Answers:
    """What a worker makes of these files and images, in a folder of its own that is made."""
    place.mkdir()
    lay_out(place, models, pixels, rounds, extra)
    return run(command, place)


def joined(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the rows that an earlier one has of other engines.

    Raises:
        UsageError: the earlier one is of other files, images, machine or onnxruntime.
    """
    for key in record.keys() - {"engines"}:
        if earlier.get(key) != record[key]:
            raise UsageError(f"the output holds figures of another {key}; choose another output")
    rows = {**earlier["engines"], **record["engines"]}
    order = [*(engine.name for engine in ENGINES), *(each.name for each in ROUNDINGS), *rows]
    return {**record, "engines": {name: rows[name] for name in dict.fromkeys(order) if name in rows}}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="engines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="use at most N of them")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="of timing")
    parser.add_argument("--engine", action="append", default=[], metavar="NAME", help="this one only")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="environments")
    parser.add_argument("--prepare", action="store_true", help="make the environments, and nothing else")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="print the table of a file")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
