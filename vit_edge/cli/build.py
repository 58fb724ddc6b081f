"""`build`: the main job."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vit_edge.cli import arguments
from vit_edge.cli.arguments import Commands, settings_from
from vit_edge.cli.console import check_json, progress, table, write_json
from vit_edge.cli.measure import status_of
from vit_edge.cli.targets import best_here, target_named
from vit_edge.manifest import Manifest, lowered_name
from vit_edge.source_parity import ProofState
from vit_edge.spec import Tolerance, Verdict, VersionsWanted
from vit_edge.verify.words import percent

ELSEWHERE = " *"  # marks a latency
_WORST_FIRST = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS)


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
    parser.add_argument("-o", "--out", type=arguments.folder, required=True, metavar="BUNDLE")
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
        help="one of `vit-edge targets`, a .toml file, or auto, the default: what fits this machine best; "
        "may be repeated, the bundle runs the first that is good enough",
    )
    parser.add_argument(
        "--embedder",
        action="store_true",
        help="the bundle gives embeddings, too: onnx/embedder.onnx and its INT8 form",
    )
    arguments.add_versions(parser)
    arguments.add_tolerance(parser)
    arguments.add_expected(parser)
    parser.add_argument(
        "--repair",
        choices=("auto", "never"),
        default="auto",
        help="where the preset's result fails: look for the fastest that passes, else run float (auto), or "
        "keep it as it is (never)",
    )
    arguments.add_session(parser, provider=False)
    arguments.add_source(parser)
    arguments.add_reference(parser)
    arguments.add_uncanonical(parser)
    arguments.add_json(parser, "the manifest")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge build`."""
    check_json(args.json)
    tolerance = settings_from(args, Tolerance)
    versions = settings_from(args, VersionsWanted)
    targets = {target.name: target for target in map(target_named, args.targets)}
    taken = None
    if not targets:
        best, reason = best_here()
        targets, taken = {best.name: best}, f"target {best.name}: {reason.partition(';')[0]}"
    from vit_edge.host.bundling.build import BuildSettings, build_bundle
    from vit_edge.host.bundling.repair import Repair
    from vit_edge.host.bundling.stated import stated_accuracy
    from vit_edge.host.quantize.types import Preset, QuantizeSettings
    from vit_edge.host.report.bundled import REPORT
    from vit_edge.host.sources import SourceOptions, resolve

    settings = settings_from(
        args,
        BuildSettings,
        targets=tuple(targets.values()),
        quantize=settings_from(args, QuantizeSettings, preset=Preset(args.preset)),
        versions=versions,
        tolerance=tolerance,
        repair=Repair(args.repair),
        stated_top1=stated_accuracy(args.source),
        reference=_reference(args),
    )
    source = resolve(args.source, settings_from(args, SourceOptions))
    with progress() as tell:
        bundle = build_bundle(source, settings, args.out, tell)
    for line in (*([taken] if taken else ()), *(f"note: {note}" for note in source.notes)):
        print(line)
    write_json(args.json, bundle.manifest.to_json())
    print(summary(bundle.manifest))
    print(choice(bundle.manifest))
    if REPORT not in bundle.manifest.files:
        print(f"note: {REPORT} is left out: what draws its charts is missing; pip install 'vit-edge[report]'")
    for line in judged_apart(bundle.manifest):
        print(line)
    for note in (bundle.manifest.accuracy or {}).get("notes", ()):
        print(f"note: {note}")
    print(f"source -> float {bundle.manifest.source_parity}")
    print(f"{bundle.path}: {_verdict(bundle.manifest.accuracy or {})}")
    if bundle.manifest.source_parity.state is ProofState.DIFFERS:
        return status_of(Verdict.FAIL.value)
    return status_of(_worst(bundle.manifest, targets if args.targets else ()))


def _reference(args: argparse.Namespace) -> Any:
    """What the user names to answer for the source; None: the source's own library."""
    if args.reference is None:
        return None
    from vit_edge.host.reference.recorded import user_reference

    return user_reference(args.reference, args.data or args.calibration, args.trust_code)


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
                f"{record['ratio_to_float']:.2f}{'' if record['timed_on_its_device'] else ELSEWHERE}",
            ]
        )
    text = table(rows)
    if any(not record["timed_on_its_device"] for record in manifest.latency):
        text += f"\n{ELSEWHERE.strip()} timed on this machine, which is not of the kind that the file is for"
    return text


def choice(manifest: Manifest) -> str:
    """What runs by default and why; where more than one quantization was seen, a row for each."""
    recipe = manifest.quantization or {}
    looked = recipe["repair"]
    lines = [f"{manifest.default_model} runs by default: {looked['reason']}"]
    if looked["integer_graph"] is not None:
        lines.append(looked["integer_graph"]["summary"])
    if looked["looks"] > 1:
        rows = [["seen", "verdict", "top-1", "agreement", "against float", "size", "why"]]
        rows += [_seen(row) for row in recipe["pareto"]]
        lines += [table(rows), f"after the first look: {100 * looked['confidence_repaired']:g} % confidence"]
    return "\n".join(lines)


def judged_apart(manifest: Manifest) -> list[str]:
    """What became of the INT8 files other than the one that the verdict is about, a line each."""
    files = (manifest.quantization or {})["repair"]["files"]
    about = (manifest.accuracy or {})["model"]
    return [
        f"{name}: {each['verdict']}, {_kept(each)}: {each['reason']}"
        for name, each in files.items()
        if name != about
    ]


def _worst(manifest: Manifest, targets: Iterable[str]) -> str:
    """The worst verdict of what runs by default and the files of the targets that were named."""
    files = (manifest.quantization or {})["repair"]["files"]
    named = [files[name]["verdict"] for target in targets if (name := lowered_name(target)) in files]
    seen = {(manifest.accuracy or {})["verdict"], *named}
    return next(verdict.value for verdict in _WORST_FIRST if verdict.value in seen)


def _kept(record: Mapping[str, Any]) -> str:
    if record["kept"] is None:
        return "left out"
    return "good enough to run" if record["good_enough"] else "kept"


def _seen(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        row["verdict"] or "reference",
        percent(row["top1"]),
        percent(row["agreement"]),
        f"{row['latency_ratio']:.2f}",
        f"{row['size_mb']:.2f} MB",
        f"chosen: {row['reason']}" if row["chosen"] else row["reason"],
    ]


def _verdict(accuracy: Mapping[str, Any]) -> str:
    data = accuracy["data"]
    known = "labelled" if data["labelled"] else "unlabelled"
    origin = ", held out of the calibration images" if data["held_out_of_calibration"] else ""
    text = f"{accuracy['verdict']} on {data['images']} {known} images{origin}"
    if data["scenes"] < data["images"]:
        text += f", of which {data['scenes']} are independent ({data['copies_left_out']} repeat another one)"
    if not data["labelled"]:
        what = (
            "of the range is tolerated" if "values" in accuracy["evidence"] else "of predictions may change"
        )
        text += f": at most {accuracy['tolerance']['max_changed']:g} % {what}"
    plan, expected = accuracy["evidence"]["plan"], accuracy["evidence"]["expected"]
    if not data["labelled"] and expected is not None and expected["ci95"] is not None:
        low, high = expected["ci95"]
        text += (
            f"; expected drop by the float model's own probabilities {expected['drop']:.2f} points "
            f"({low:.2f} to {high:.2f})"
        )
    if accuracy["verdict"] == "UNDECIDED" and accuracy["images_needed"] and plan:
        kind = "fresh images" if plan["kind"] == "fresh" else "more images"
        text += f"; about {accuracy['images_needed']} {kind} would decide ({100 * plan['power']:g} % power)"
    return text
