"""`compare` and `bench`: what a quantized model costs and what it saves."""

import argparse
import sys
import time
from pathlib import Path

from vit_edge.bundle import Role
from vit_edge.cli import arguments, values
from vit_edge.cli.compare_embedders import run_embedders
from vit_edge.cli.console import check_file, check_json, pairs, progress, table, write_json, write_text
from vit_edge.cli.embedding_options import add_embedding_tolerance, embedding_tolerance
from vit_edge.cli.figures import figures
from vit_edge.cli.junit import junit_xml
from vit_edge.cli.parser import Commands, session_settings, settings_from, tolerance_from
from vit_edge.cli.spread_option import add_spread, spread_of
from vit_edge.cli.truth_option import add_truth, check_truth
from vit_edge.errors import UsageError
from vit_edge.progress import step_of
from vit_edge.runtime.evaluate.compare import compare
from vit_edge.runtime.evaluate.compatible import read_quantized, stated_top1
from vit_edge.runtime.evaluate.dataset import read_images
from vit_edge.runtime.evaluate.embeddings import read_embedder_pair
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.evaluate.looks import earlier_looks, remember
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.evaluate.stated import at_size, with_stated
from vit_edge.runtime.evaluate.truth.read import with_truth
from vit_edge.runtime.measure.benchmark import BenchReport, BenchSettings, bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.spec import Verdict
from vit_edge.stated import StatedPreprocess

_STATUS = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.UNDECIDED: 3}


def add(commands: Commands) -> None:
    """Declare both commands."""
    gate = commands.add_parser("compare", help="float against INT8 on images: PASS, FAIL or UNDECIDED")
    gate.add_argument("float", metavar="FLOAT", type=Path, help="ONNX file, or a bundle for its float model")
    gate.add_argument("quant", metavar="QUANT", type=Path, help="ONNX file, or a bundle for its INT8 model")
    gate.add_argument("--data", type=Path, required=True, metavar="DIR", help="images, labelled or not")
    arguments.add_class_ids(gate)
    add_truth(gate)
    arguments.add_output(gate, probabilities=True)
    arguments.add_formats(gate)
    gate.add_argument("--limit", type=int, metavar="N", help="use N images, spread evenly over the classes")
    arguments.add_tolerance(gate)
    gate.add_argument(
        "--embedder",
        action="store_true",
        help="compare the embedders of bundles; files that are embedders are compared as such without it",
    )
    add_embedding_tolerance(gate)
    arguments.add_preprocessing(gate)
    arguments.add_quant_side(gate)
    gate.add_argument(
        "--batch", type=int, default=8, metavar="N", dest="batch_size", help="images run together"
    )
    gate.add_argument(
        "--sequential",
        action="store_true",
        help="take the images in random order and stop once they decide",
    )
    gate.add_argument(
        "--independent",
        action="store_true",
        help="the images are independent of one another, however alike: do not group similar ones",
    )
    gate.add_argument(
        "--self",
        action="store_true",
        dest="same",
        help="allow a model to be compared with itself, which proves the set-up and nothing about INT8",
    )
    add_spread(gate, "run both models")
    gate.add_argument("--seed", type=int, default=0, metavar="N", help="of that order (default: 0)")
    arguments.add_expected(gate)
    arguments.add_session(gate)
    arguments.add_json(gate, "the figures")
    gate.add_argument(
        "--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML, a test for a CI server"
    )
    gate.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="time both models, look inside, and write all of it as HTML",
    )
    gate.set_defaults(run=run_compare)

    clock = commands.add_parser("bench", help="latency, memory and size of models, measured in turn")
    clock.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="ONNX file or bundle")
    clock.add_argument("--batch", type=int, default=1, metavar="N", help="images per run (default: 1)")
    clock.add_argument(
        "--rounds", type=int, default=30, metavar="N", dest="at_least", help="at least N rounds"
    )
    clock.add_argument(
        "--seconds", type=values.finite, default=3.0, metavar="S", help="for at least S seconds"
    )
    clock.add_argument(
        "--image-size",
        type=values.size,
        metavar="PX",
        help="of models that leave it open: 224, HEIGHTxWIDTH",
    )
    arguments.add_session(clock)
    arguments.add_json(clock, "the figures")
    clock.set_defaults(run=run_bench)


def run_compare(args: argparse.Namespace) -> int:
    """`vit-edge compare`."""
    start = time.perf_counter()
    check_json(args.json)
    check_file("--junit", args.junit)
    check_file("--report", args.report)
    spread = spread_of(args)
    if args.report is not None:
        from vit_edge.host.report.needs import check_installed

        check_installed()
    tolerance = tolerance_from(args)
    stated, wanted = settings_from(args, StatedPreprocess), OutputWanted(args.output, args.output_kind)
    models = _models(args, stated, wanted)
    reference, quantized = models
    check_truth(args, bool(reference.maps))
    if reference.embeds or quantized.embeds:
        return status_of(run_embedders(args, models).value)
    embedding_tolerance(args, wanted=False)
    earlier = earlier_looks((reference.sha256, quantized.sha256), args.json)
    settings = settings_from(
        args,
        CompareSettings,
        session=session_settings(args),
        spread=spread,
        earlier=earlier,
        stated_top1=stated_top1(args.float),
    )
    class_ids = None if args.class_ids is None else read_class_ids(args.class_ids)
    images = read_images(
        args.data, reference.labels or quantized.labels, class_ids, args.limits, reference.output
    )
    images = with_truth(images, args.truth, reference.maps, reference.labels or quantized.labels)
    if args.limit is not None:
        images = images.limited(args.limit)
    with progress(args.quiet) as tell:
        comparison = compare(
            reference,
            quantized,
            images,
            tolerance,
            settings,
            step_of(tell, "compare"),
        )
    report = comparison.report
    if not remember(comparison.pair, comparison.history):
        print("note: this look cannot be remembered in the user's cache; keep --json FILE", file=sys.stderr)
    write_json(args.json, comparison.to_json())
    if args.junit is not None:
        write_text("--junit", args.junit, junit_xml(report, args.quant, time.perf_counter() - start))
    print(pairs(figures(comparison)))
    if args.report is not None:
        from vit_edge.host.report.compare import comparison_report

        bundle = args.quant if args.quant.is_dir() else None
        page = comparison_report(reference, quantized, comparison, settings.session, bundle)
        write_text("--report", args.report, page)
    return status_of(report.verdict.value)


def _models(
    args: argparse.Namespace, stated: StatedPreprocess, wanted: OutputWanted
) -> tuple[ModelFile, ModelFile]:
    """Both models, with what is stated of them.

    Raises:
        UsageError: they are one.
        VitEdgeError: as in `read_model` and `with_stated`.
    """
    if args.embedder:
        models = read_embedder_pair(args.float, args.quant)
    else:
        reference = read_model(args.float, Role.FLOAT if args.float.is_dir() else None, wanted)
        models = reference, read_quantized(args.quant, arguments.quant_side(args)[1])
    reference, quantized = with_stated(models, stated, arguments.quant_side(args)[0])
    if reference.sha256 == quantized.sha256 and not args.same:
        raise UsageError(
            f"{reference.path} and {quantized.path} are the same model, which is no comparison; name "
            "the INT8 model as the second one, or state --self"
        )
    return reference, quantized


def run_bench(args: argparse.Namespace) -> int:
    """`vit-edge bench`."""
    check_json(args.json)
    settings = settings_from(
        args, BenchSettings, session=session_settings(args), rounds=settings_from(args, Rounds)
    )
    models = [at_size(read_model(path), args.image_size) for path in args.models]
    report = bench(models, settings)
    write_json(args.json, report.to_json())
    print(_latencies(report))
    return 0


def status_of(verdict: str) -> int:
    """The exit status that says a verdict."""
    return _STATUS[Verdict(verdict)]


def _latencies(report: BenchReport) -> str:
    rows = [["model", "provider", "batch", "min", "median", "p95", "ratio", "peak memory", "size"]]
    for entry, ratio in zip(report.models, report.ratios, strict=True):
        memory = entry.peak_rss_mb
        rows.append(
            [
                entry.path,
                ", ".join(entry.providers),
                str(entry.batch),
                f"{entry.latency.min_ms:.2f} ms",
                f"{entry.latency.median_ms:.2f} ms",
                f"{entry.latency.p95_ms:.2f} ms",
                str(ratio),
                "-" if memory is None else f"{memory:.0f} MB",
                f"{entry.size_mb:.2f} MB",
            ]
        )
    machine = report.machine
    threads = report.models[0].threads
    chosen = "onnxruntime's choice" if threads is None else str(threads)
    return (
        f"{table(rows)}\n{machine.cpu}, {machine.cores} cores, threads: {chosen}, {machine.system}, "
        f"onnxruntime {machine.onnxruntime}"
    )
