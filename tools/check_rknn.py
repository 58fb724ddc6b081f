"""Quantizes a model for a Rockchip NPU by measured noise, builds it with the toolkit, and runs its simulator.

Usage: python -m tools.check_rknn (--source SOURCE | --bundle DIR) --calib DIR --data DIR --toolkit PYTHON
       [--count N] [--vendor ALGORITHM ...] [--keep DIR] [-o results.json]

PYTHON is the interpreter of an environment of its own that holds `rknn-toolkit2` (Python 3.11, `pip install
rknn-toolkit2`). The target's float file is written as `build` writes it, and types and ranges of its tensors
are found on the CPU (`vit_edge.host.hybrid`): `--share` of all multiply-adds is computed in 8 bits. Of a
bundle that was built for the target both are taken as they lie there; give the `--calib` of that build.
The toolkit is given types and ranges between the two steps of its hybrid quantization, and its layer table is
read back: the types that were asked for must be those that were built. `--vendor` runs the toolkit's own
quantizations beside it, on `--vendor-count` of the same images. What breaks off goes on where it was with
`--keep DIR`, where models and the simulator's answers stay. It is the maker's simulator: nothing is said of
speed.

Exit status: 0 every product was built in the type that was asked for, 1 one was not, 2 bad input.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.rknn_cases import case, from_bundle, from_source
from vit_edge.bundle import read_bundle
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import VitEdgeError
from vit_edge.host.compilers import rockchip
from vit_edge.host.compilers.rockchip_layers import claims_of
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.targets import load_target

TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")
VENDORS = ("normal", "kl_divergence", "mmse", "auto_hybrid")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        rockchip.platform_of(load_target(given.target))
        version = rockchip.toolkit_version(given.toolkit, "--toolkit")
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
    if given.bundle is None:
        source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
        start, found = from_source(source, target, given, work)
    else:
        start, found = from_bundle(read_bundle(given.bundle), target, given, work)
    shared = {
        "model": start.name,
        "target": target.name,
        "calibration_images": len(start.calibration),
        "wide_products": sorted({product.name for product in start.products} - set(found.narrow)),
        "ranges": found.found_by,
        "expected_db": dict(found.expected_db),
        "alone_db": dict(found.alone_db),
        "machine": describe_machine().to_json(),
        "versions": {
            **{tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
            "rknn-toolkit2": version,
        },
    }
    rows: list[dict[str, Any]] = []
    for name in ("ours", *given.vendor):
        own = name == "ours"
        taken = start if own else start.fewer(given.vendor_count)
        asked = rockchip.asked_of(found) if own else {"algorithm": name}
        row, layers = case(taken, given.toolkit, rockchip.platform_of(target), work / name, asked)
        if own:
            otherwise = claims_of(layers, set(found.narrow), start.products)
            row |= {"as_asked": not otherwise, "otherwise": list(otherwise)}
        rows.append({"case": name if own else f"the toolkit's {name}", **row})
        write_json(given.output, {**shared, "cases": rows})  # a case may take an hour: each is kept
    return {**shared, "cases": rows}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| quantization | images | agreement | SQNR | multiply-adds in w8a8 | on the CPU |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['images']} | {row['agreement_with_float']:.1f} % "
        f"| {row['sqnr_to_float_db']:.1f} dB "
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
    made_from = parser.add_mutually_exclusive_group(required=True)
    made_from.add_argument("--source", help="as for vit-edge build")
    made_from.add_argument("--bundle", type=Path, metavar="DIR", help="that build made for the target")
    parser.add_argument("--crop-pct", type=float, help="where the source does not say so")
    parser.add_argument("--calib", type=Path, required=True, metavar="DIR", help="calibration images")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to run")
    parser.add_argument("--toolkit", type=Path, required=True, metavar="PYTHON", help="of its environment")
    parser.add_argument("--target", default="rknn-rk3588", metavar="NAME", help="default: rknn-rk3588")
    parser.add_argument("--count", type=_count, default=40, metavar="N", help="images to run (default: 40)")
    parser.add_argument(
        "--share", type=_share, metavar="S", help="of multiply-adds in 8 bits (default: as the target says)"
    )
    parser.add_argument(
        "--vendor", choices=VENDORS, action="append", default=[], help="also the toolkit's own; repeatable"
    )
    parser.add_argument(
        "--vendor-count", type=_count, metavar="N", help="images for those (default: every one)"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps the calibration")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keeps files, configurations, models and answers"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
