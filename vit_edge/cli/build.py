"""`build`: the main job."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.cli import arguments
from vit_edge.cli.arguments import Commands, settings_from
from vit_edge.cli.console import check_json, progress, table, write_json
from vit_edge.cli.measure import percent, status_of
from vit_edge.manifest import Manifest
from vit_edge.spec import Tolerance
from vit_edge.targets import load_target


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "build", help="a source and images in, a deployable bundle with its proof out"
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="Hugging Face folder or id, timm:NAME@FILE, weights, ONNX or module:callable",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE")
    arguments.add_quantize(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="images that check the result, labelled or not (default: every fourth calibration image)",
    )
    arguments.add_class_ids(parser)
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        dest="targets",
        help="one of `vit-edge targets`; may be repeated, the first is what the bundle runs by default",
    )
    arguments.add_tolerance(parser)
    arguments.add_session(parser, provider=False)
    arguments.add_source(parser)
    arguments.add_uncanonical(parser)
    arguments.add_json(parser, "the manifest")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge build`."""
    check_json(args.json)
    tolerance = settings_from(args, Tolerance)
    targets = tuple(load_target(name) for name in dict.fromkeys(args.targets))
    from vit_edge.host.build import BuildSettings, build_bundle
    from vit_edge.host.quantize.types import Preset, QuantizeSettings
    from vit_edge.host.sources import SourceOptions, resolve

    settings = settings_from(
        args,
        BuildSettings,
        targets=targets,
        quantize=settings_from(args, QuantizeSettings, preset=Preset(args.preset)),
        tolerance=tolerance,
    )
    source = resolve(args.source, settings_from(args, SourceOptions))
    if source.labels_note:
        print(f"note: {source.labels_note}")
    with progress() as tell:
        bundle = build_bundle(source, settings, args.out, tell)
    write_json(args.json, bundle.manifest.to_json())
    print(summary(bundle.manifest))
    print(f"{bundle.path}: {_verdict(bundle.manifest.accuracy or {})}")
    return status_of((bundle.manifest.accuracy or {})["verdict"])


def summary(manifest: Manifest) -> str:
    """One row per model: accuracy, agreement with float, size and latency."""
    reports = (manifest.accuracy or {}).get("models", {})
    any_report: Mapping[str, Any] = next(iter(reports.values()), {})
    rows = [["model", "verdict", "top-1", "agreement", "size", "median", "against float"]]
    for record in manifest.latency:
        report = reports.get(record["path"])
        top1 = any_report.get("top1_float") if report is None else report["top1_quant"]
        rows.append(
            [
                record["path"],
                "reference" if report is None else report["verdict"],
                percent(top1),
                "-" if report is None else percent(report["agreement"]),
                f"{record['size_mb']:.2f} MB",
                f"{record['median_ms']:.2f} ms",
                f"{record['ratio_to_float']:.2f}",
            ]
        )
    return table(rows)


def _verdict(accuracy: Mapping[str, Any]) -> str:
    data = accuracy["data"]
    kind = "labelled" if data["labelled"] else "unlabelled"
    origin = ", held out of the calibration images" if data["held_out_of_calibration"] else ""
    text = f"{accuracy['verdict']} on {data['images']} {kind} images{origin}"
    if accuracy["verdict"] == "UNDECIDED" and accuracy["images_needed"]:
        text += f"; about {accuracy['images_needed']} more would decide"
    return text
