"""`build`: the main job."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vit_edge.bundle import check_replaceable
from vit_edge.cli import arguments, layout_option, values
from vit_edge.cli.checks import few_images
from vit_edge.cli.compare_embedders import criterion_lines, embedder_lines, embedding_claim
from vit_edge.cli.console import check_json, one_line, progress, table, tell_notes, write_json
from vit_edge.cli.embedding_options import (
    add_embedder,
    add_embedding_tolerance,
    check_taps,
    embedding_tolerance,
    outputs_used,
    refuse_idle,
)
from vit_edge.cli.measure import status_of
from vit_edge.cli.merging_option import add_merging, merging_lines
from vit_edge.cli.parser import Commands, settings_from, tolerance_from
from vit_edge.cli.spread_option import spread_of
from vit_edge.cli.targets import best_here, target_named
from vit_edge.cli.truth_option import add_truth, check_truth
from vit_edge.manifest import (
    AccuracyRecord,
    EmbedderRecord,
    FileOutcome,
    Manifest,
    Recipe,
    Repair,
    RepairRecord,
    Seen,
    lowered_name,
)
from vit_edge.runtime.measure.timing import ratio_text
from vit_edge.source_parity import ProofState
from vit_edge.spec import OutputKind, Verdict, VersionsWanted
from vit_edge.verify import judged
from vit_edge.verify.words import interval, percent, truth_score

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
    parser.add_argument("-o", "--out", type=values.folder, required=True, metavar="BUNDLE")
    arguments.add_quantize(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="images that check the result, labelled or not (default: every fourth calibration image)",
    )
    arguments.add_class_ids(parser)
    add_truth(parser)
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
        "--compiler",
        type=Path,
        metavar="PYTHON",
        help="of an environment with a target's compiler: what that makes of the file is in the bundle, too",
    )
    add_embedder(parser, "the bundle gives embeddings, too: onnx/embedder.onnx and its INT8 form")
    add_merging(parser, "taken where the INT8 file still passes and is faster for it")
    arguments.add_versions(parser)
    arguments.add_tolerance(parser)
    add_embedding_tolerance(parser)
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
    layout_option.add_layout(
        parser, "of an image tower of CLIP or SigLIP: beside BUNDLE, the folder that a photo server reads"
    )
    layout_option.add_textual(parser)
    arguments.add_json(parser, "the manifest")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge build`."""
    check_json(args.json)
    layout_option.check_textual(args)
    check_taps(args)
    check_replaceable(args.out)
    tolerance = tolerance_from(args)
    embeddings = embedding_tolerance(args, wanted=True)
    spread = spread_of(args)
    targets = {target.name: target for target in map(target_named, args.targets)}
    taken = None
    if not targets:
        best, reason = best_here()
        targets, taken = {best.name: best}, f"target {best.name}: {reason.partition(';')[0]}"
    from vit_edge.host.bundling.build import build_bundle
    from vit_edge.host.bundling.settings import BuildSettings
    from vit_edge.host.bundling.stated import stated_accuracy
    from vit_edge.host.quantize.types import Preset, QuantizeSettings
    from vit_edge.host.sources import SourceOptions, resolve

    settings = settings_from(
        args,
        BuildSettings,
        targets=tuple(targets.values()),
        quantize=settings_from(args, QuantizeSettings, preset=Preset(args.preset), spread=spread),
        versions=settings_from(args, VersionsWanted),
        tolerance=tolerance,
        embedding_tolerance=embeddings,
        embedder_for=outputs_used(args),
        repair=Repair(args.repair),
        stated_top1=stated_accuracy(args.source),
        reference=_reference(args),
    )
    source = resolve(args.source, settings_from(args, SourceOptions))
    check_truth(args, source.output is OutputKind.MAP)
    layout_option.check_layout(args, source)
    if not args.embedder and source.output.task is not OutputKind.EMBEDDING:
        refuse_idle(args)
    with progress(args.quiet) as tell:
        bundle = build_bundle(source, settings, args.out, tell, _tell_now)
    tell_notes([*source.notes, *few_images(args.calibration, args.images, args.limits)])
    write_json(args.json, bundle.manifest.to_json())
    accuracy, recipe = bundle.manifest.accuracy, bundle.manifest.quantization
    assert accuracy is not None and recipe is not None  # noqa: S101, PT018  a build records them
    if not args.quiet:
        print("\n".join(_details(bundle.manifest, taken)))
    tell_notes(accuracy.notes)
    for finding in bundle.manifest.findings:
        print(one_line(str(finding)))
    print(f"{bundle.path}: {_verdict(accuracy)}")
    if args.layout is not None:
        layout_option.write_layout(bundle.path, layout_option.beside(args), args.textual)
    if bundle.manifest.source_parity.state is ProofState.DIFFERS or _fails(recipe.embedder):
        return status_of(Verdict.FAIL.value)
    return status_of(_worst(recipe.repair, accuracy, targets if args.targets else ()).value)


def _tell_now(note: str) -> None:
    """A note that is of use before minutes of work, whoever reads along."""
    tell_notes([note])
    sys.stdout.flush()


def _details(manifest: Manifest, taken: str | None) -> Iterator[str]:
    """What was made, and why it is as it is."""
    from vit_edge.host.report.bundled import REPORT

    assert manifest.quantization is not None and manifest.accuracy is not None  # noqa: S101, PT018  of a build
    if taken is not None:
        yield taken
    yield summary(manifest)
    yield choice(manifest.default_model, manifest.quantization)
    if REPORT not in manifest.files:
        yield f"note: {REPORT} is left out: what draws its charts is missing; pip install 'vit-edge[report]'"
    yield from judged_apart(manifest.quantization.repair, manifest.accuracy.model)
    yield from (each.summary for each in manifest.quantization.compiled)
    yield from merging_lines(manifest.quantization.merging)
    yield from embedder_lines(manifest.quantization.embedder)
    own = manifest.accuracy.report.evidence.embeddings
    yield from () if own is None else criterion_lines("embedding", own)
    for each in manifest.accuracy.report.evidence.truth:
        yield f"{each.measure.words}: {truth_score(each)}"
    yield f"source -> float {manifest.source_parity}"


def _reference(args: argparse.Namespace) -> Any:
    """What the user names to answer for the source; None: the source's own library."""
    if args.reference is None:
        return None
    from vit_edge.host.reference.recorded import user_reference

    return user_reference(args.reference, args.data or args.calibration, args.trust_code)


def summary(manifest: Manifest) -> str:
    """One row per model: accuracy, agreement with float, size and latency."""
    reports = {} if manifest.accuracy is None else manifest.accuracy.models
    any_report = next(iter(reports.values()), None)
    float_top1 = None if any_report is None else any_report.top1_float
    rows = [["model", "verdict", "top-1", "agreement", "size", "median", "against float"]]
    for record in manifest.latency:
        report = reports.get(record.path)
        rows.append(
            [
                record.path,
                "reference" if report is None else report.verdict.value,
                percent(float_top1 if report is None else report.top1_quant),
                "-" if report is None else percent(report.agreement),
                f"{record.size_mb:.2f} MB",
                f"{record.median_ms:.2f} ms",
                ratio_text(record.ratio_to_float, record.ratio_interval)
                + ("" if record.timed_on_its_device else ELSEWHERE),
            ]
        )
    text = table(rows)
    if any(not record.timed_on_its_device for record in manifest.latency):
        text += f"\n{ELSEWHERE.strip()} timed on this machine, which is not of the kind that the file is for"
    return text


def choice(default_model: str, recipe: Recipe) -> str:
    """What runs by default and why; where more than one quantization was seen, a row for each."""
    looked = recipe.repair
    lines = [f"{default_model} runs by default: {looked.reason}"]
    if looked.integer_graph is not None:
        lines.append(looked.integer_graph.summary)
    if looked.confidence_repaired is not None:
        rows = [["seen", "verdict", "top-1", "agreement", "against float", "size", "why"]]
        rows += [_seen(row) for row in recipe.pareto]
        lines += [table(rows), f"after the first look: {100 * looked.confidence_repaired:g} % confidence"]
    return "\n".join(lines)


def judged_apart(repair: RepairRecord, about: str) -> list[str]:
    """What became of the INT8 files other than the one that the verdict is about, a line each."""
    return [
        f"{name}: {each.verdict.value}, {_kept(each)}: {each.reason}"
        for name, each in repair.files.items()
        if name != about
    ]


def _fails(embedder: EmbedderRecord | None) -> bool:
    return embedder is not None and embedder.report is not None and embedder.report.verdict is Verdict.FAIL


def _worst(repair: RepairRecord, accuracy: AccuracyRecord, targets: Iterable[str]) -> Verdict:
    """The worst verdict of what runs by default and the files of the targets that were named."""
    names = {lowered_name(target) for target in targets}
    named = {each.verdict for name, each in repair.files.items() if name in names}
    seen = {accuracy.report.verdict, *named}
    return next(verdict for verdict in _WORST_FIRST if verdict in seen)


def _kept(outcome: FileOutcome) -> str:
    if outcome.kept is None:
        return "left out"
    return "good enough to run" if outcome.good_enough else "kept"


def _seen(row: Seen) -> list[str]:
    return [
        row.name,
        "reference" if row.verdict is None else row.verdict.value,
        percent(row.top1),
        percent(row.agreement),
        f"{row.latency_ratio:.2f}",
        f"{row.size_mb:.2f} MB",
        f"chosen: {row.reason}" if row.chosen else row.reason,
    ]


def _verdict(accuracy: AccuracyRecord) -> str:
    data, report = accuracy.data, accuracy.report
    known = "labelled" if data.labelled else "unlabelled"
    origin = ", held out of the calibration images" if data.held_out_of_calibration else ""
    text = f"{report.verdict.value} on {data.images} {known} images{origin}"
    if data.scenes < data.images:
        text += f", of which {data.scenes} are independent ({data.copies_left_out} repeat another one)"
    expected = report.evidence.expected
    if not data.labelled or report.evidence.truth:
        text += f" for {judged.Judged.of(report).claim}"
        if expected is not None and expected.ci95 is not None:
            text += (
                f"; expected drop by the float model's own probabilities {expected.drop:.2f} points "
                f"({interval(expected.ci95)})"
            )
    if report.evidence.embeddings is not None:
        text += f"; {embedding_claim(report.evidence.embeddings)}"
    if report.verdict is Verdict.UNDECIDED:
        text += f"; would decide: {judged.would_decide(report)}"
    return text
