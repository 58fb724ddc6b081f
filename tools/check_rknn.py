"""Quantizes a model for a Rockchip NPU by measured noise, builds it with the toolkit, and runs its simulator.

Usage: python -m tools.check_rknn --source SOURCE --calib DIR --data DIR --toolkit PYTHON [--count N]
       [--vendor ALGORITHM ...] [--keep DIR] [-o results.json]

PYTHON is the interpreter of an environment of its own that holds `rknn-toolkit2` (Python 3.11, `pip install
rknn-toolkit2`). The target's float file is written as `build` writes it. Each product (linear layer, patch
embedding, attention) is rounded to 8 bits alone on the CPU, and those with the most noise on the logits for
their multiply-adds stay in half precision, with all other operators, until `--share` of all multiply-adds is
left in 8 bits. The ranges of what goes into and comes out of them are whole or those of the least squared
error, whichever disturbs the logits less with all of them rounded. The
toolkit is given these types and ranges between the two steps of its hybrid quantization, and its layer table
is read back: the types that were asked for must be those that were built. `--vendor` runs the toolkit's own
quantizations beside it, on the same images. It is the maker's simulator: nothing is said of speed.

Exit status: 0 every product was built in the type that was asked for, 1 one was not, 2 bad input.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tools.rknn_forms import Product, Reach, chosen, logits_of, noise, products_of, reaches_of, rounded
from tools.rknn_layers import claims_of, integer_share
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.targets import load_target
from vit_edge.verify.metrics import agreement, logit_sqnr_db

TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")
VENDORS = ("normal", "kl_divergence", "mmse", "auto_hybrid")
SCRIPT = Path(__file__).parent / "rknn_toolkit.py"
CALIBRATION = 20  # images for ranges, ours and the toolkit's
PROBED = 8  # of them, for the noise of each product
_PLATFORM = "target_platform"
_MOST_SECONDS = 6 * 3600

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What every case starts from."""

    model: Path
    calibration: tuple[Path, ...]
    images: tuple[Path, ...]
    exact: Floats
    """The float file's logits for `images`."""
    products: tuple[Product, ...]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was found on the CPU."""

    reaches: Mapping[str, Reach]
    narrow: tuple[str, ...]
    """The products in 8 bits."""
    ranges: str
    """How their ranges were found."""
    together_db: Mapping[str, float]
    """Signal to noise ratio of all of them together that the CPU expects, with either kind of ranges."""
    alone_db: Mapping[str, float]
    """Of each product."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        _platform(given.target)
        version = _toolkit_version(given.toolkit)
        with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
            work = Path(given.keep or folder)
            work.mkdir(parents=True, exist_ok=True)
            result = check(given, work.resolve(), version)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(result["cases"]))
    first = result["cases"][0]
    return 0 if first["as_asked"] else 1


def check(given: argparse.Namespace, work: Path, version: str) -> dict[str, Any]:
    """Write the file, choose, build and run every case."""
    target = load_target(given.target)
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    prepared = _prepared(source, given, work)
    choice = _choice(prepared, given.share)
    shared = {
        "model": source.name,
        "target": target.name,
        "images": len(prepared.images),
        "calibration_images": len(prepared.calibration),
        "wide_products": sorted({product.name for product in prepared.products} - set(choice.narrow)),
        "ranges": choice.ranges,
        "expected_db": dict(choice.together_db),
        "alone_db": dict(choice.alone_db),
        "machine": describe_machine().to_json(),
        "versions": {
            **{tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
            "rknn-toolkit2": version,
        },
    }
    rows: list[dict[str, Any]] = []
    for name in ("ours", *given.vendor):
        ours = {"ranges": _as_json(choice.reaches), "narrow": choice.narrow}
        found, layers = _case(prepared, given, work / name, ours if name == "ours" else {"algorithm": name})
        claims = claims_of(layers, set(choice.narrow), prepared.products) if name == "ours" else {}
        rows.append({"case": name if name == "ours" else f"the toolkit's {name}", **found, **claims})
        write_json(given.output, {**shared, "cases": rows})  # a case may take an hour: each is kept
    return {**shared, "cases": rows}


def _prepared(source: Source, given: argparse.Namespace, work: Path) -> Prepared:
    target = load_target(given.target)
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name)
    settings = QuantizeSettings(Preset.STATIC, cache=given.cache)
    paths = list_images(given.calib).paths
    folded = fold(canonical, calibrate(canonical, paths, source.preprocess, settings))
    lowering = LowerSettings(target.form, normalisation_of(source.preprocess))
    model = finish(lower(folded.canonical, lowering), metadata_of(source))
    save_onnx(model, work / "model.onnx")
    calibration = _arrays(source, given.calib, CALIBRATION, work / "calibration")
    images = _arrays(source, given.data, given.count, work / "images")
    exact = logits_of(model, _feeds(images))
    return Prepared(work / "model.onnx", calibration, images, exact, tuple(products_of(model)))


def _arrays(source: Source, folder: Path, count: int, out: Path) -> tuple[Path, ...]:
    """Images as the file takes them, spread evenly over a folder, each in a `.npy` of its own."""
    paths = list_images(folder).paths
    paths = evenly(paths, count)
    out.mkdir(exist_ok=True)
    written = []
    for index, path in enumerate(paths):
        written.append(out / f"{index}.npy")
        np.save(written[-1], normalize(load_pixels(path, source.preprocess)[None], source.preprocess))
    return tuple(written)


def _feeds(paths: Sequence[Path]) -> list[Mapping[str, Floats]]:
    return [{"pixel_values": np.load(path)} for path in paths]


def _choice(prepared: Prepared, share: float) -> Choice:
    """Types by the noise of each product alone, ranges by the noise of the whole choice."""
    model, feeds = onnx.load(prepared.model), _feeds(prepared.calibration)
    least, few = reaches_of(model, feeds), feeds[:PROBED]
    whole = {name: reach.whole for name, reach in least.items()}
    exact = logits_of(model, few)
    noises = {}
    for done, product in enumerate(prepared.products, 1):
        noises[product.name] = noise(exact, logits_of(rounded(model, [product], whole), few))
        told = f"{product.name} {decibels(noises[product.name]):.1f} dB"
        print(f"product {done} of {len(prepared.products)}: {told}", file=sys.stderr, flush=True)
    narrow = chosen(prepared.products, noises, share)
    together = {
        kind: noise(exact, logits_of(rounded(model, narrow, reaches), few))
        for kind, reaches in (("whole", whole), ("least squares", least))
    }
    best = min(together, key=lambda kind: together[kind])
    return Choice(
        whole if best == "whole" else least,
        tuple(product.name for product in narrow),
        best,
        {kind: round(decibels(lost), 2) for kind, lost in together.items()},
        {name: round(decibels(lost), 2) for name, lost in noises.items()},
    )


def _as_json(reaches: Mapping[str, Reach]) -> dict[str, Any]:
    return {name: dataclasses.asdict(reach) for name, reach in reaches.items()}


def _case(
    prepared: Prepared, given: argparse.Namespace, out: Path, quantization: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """One quantization built and run by the toolkit: its figures, and the compiler's table of layers."""
    out.mkdir(parents=True, exist_ok=True)
    job = {
        "model": str(prepared.model),
        "platform": _platform(given.target),
        "calibration": [str(path) for path in prepared.calibration],
        "images": [str(path) for path in prepared.images],
        **quantization,
    }
    (out / "job.json").write_text(json.dumps(job))
    print(f"the toolkit works on {out.name}", file=sys.stderr, flush=True)
    command = [str(given.toolkit), str(SCRIPT), str(out / "job.json"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False)
    if done.returncode != 0 or not (out / "case.json").is_file():
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError(f"the toolkit fails on {out.name} ({last[:200]}); keep its output with --keep DIR")
    found, made = json.loads((out / "case.json").read_text()), np.load(out / "logits.npy")
    made = made.reshape(prepared.exact.shape)
    layers = found["layers"]
    row = {
        "agreement_with_float": round(agreement(prepared.exact, made), 2),
        "sqnr_to_float_db": round(logit_sqnr_db(prepared.exact, made), 2),
        "macs_in_w8a8": round(100 * integer_share(layers, prepared.products), 2),
        "on_the_cpu": [row["name"] for row in layers if row["target"] == "CPU" and not _edge(row)],
        "ranges_of_ours": len(found["applied"]),
    }
    return row, layers


def _platform(name: str) -> str:
    """What the toolkit calls the device of a target.

    Raises:
        UsageError: the target is not one of the toolkit's.
    """
    options = dict(load_target(name).provider.options)
    if _PLATFORM not in options:
        raise UsageError(f"--target {name} says no provider option {_PLATFORM}; name one for Rockchip's NPUs")
    return options[_PLATFORM]


def _edge(row: Mapping[str, str]) -> bool:
    """Whether a layer only takes or gives the file's own tensors."""
    return row["operator"] in ("InputOperator", "OutputOperator")


def _toolkit_version(python: Path) -> str:
    """Of the toolkit in an environment.

    Raises:
        UsageError: there is no such interpreter, or it has no toolkit.
    """
    asked = "from importlib.metadata import version; print(version('rknn-toolkit2'))"
    try:
        done = subprocess.run(
            [str(python), "-c", asked], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"--toolkit {python} cannot be run ({error}); give the environment's python"
        ) from None
    if done.returncode != 0:
        raise UsageError(
            f"--toolkit {python} has no rknn-toolkit2; run: {python} -m pip install rknn-toolkit2"
        )
    return done.stdout.strip()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| quantization | agreement | SQNR | multiply-adds in w8a8 | on the CPU |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['agreement_with_float']:.1f} % | {row['sqnr_to_float_db']:.1f} dB "
        f"| {row['macs_in_w8a8']:.1f} % | {', '.join(row['on_the_cpu']) or 'nothing'} |"
        for row in rows
    ]
    return "\n".join([*lines, *(f"otherwise than asked: {each}" for each in rows[0]["otherwise"])])


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"must be 0 to 1, got {text!r}")
    return share


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of images, at least 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Quantize for a Rockchip NPU and run its simulator.")
    parser.add_argument("--source", required=True, help="as for vit-edge build")
    parser.add_argument("--crop-pct", type=float, help="where the source does not say so")
    parser.add_argument("--calib", type=Path, required=True, metavar="DIR", help="calibration images")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to run")
    parser.add_argument("--toolkit", type=Path, required=True, metavar="PYTHON", help="of its environment")
    parser.add_argument("--target", default="rknn-rk3588", metavar="NAME", help="default: rknn-rk3588")
    parser.add_argument("--count", type=_count, default=40, metavar="N", help="images to run (default: 40)")
    parser.add_argument(
        "--share", type=_share, default=0.85, metavar="S", help="of multiply-adds in 8 bits (default: 0.85)"
    )
    parser.add_argument(
        "--vendor", choices=VENDORS, action="append", default=[], help="also the toolkit's own; repeatable"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps the calibration")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keeps files, configurations and models")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
