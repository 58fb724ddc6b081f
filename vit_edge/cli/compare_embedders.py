"""`compare` of two embedders: their criteria in words, as JSON, and as tests for a CI server."""

import argparse
import sys
import time
from pathlib import Path

from vit_edge.cli.console import pairs, progress, write_json, write_text
from vit_edge.cli.embedding_options import embedding_tolerance
from vit_edge.cli.figures import Rows, copy_rows, model_rows
from vit_edge.cli.junit import Check, suite_xml
from vit_edge.cli.parser import session_settings, settings_from
from vit_edge.cli.spread_option import spread_of
from vit_edge.embedding_report import CriterionFigures, EmbeddingReport
from vit_edge.errors import UsageError
from vit_edge.manifest import EmbedderRecord
from vit_edge.progress import step_of
from vit_edge.runtime.evaluate.dataset import read_grouped
from vit_edge.runtime.evaluate.embeddings import EmbeddingComparison, compare_embedders
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.evaluate.looks import earlier_looks, remember
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import Verdict
from vit_edge.verify.judged import more_images
from vit_edge.verify.words import percent


def run_embedders(args: argparse.Namespace, models: tuple[ModelFile, ModelFile]) -> Verdict:
    """Compare two embedders as `vit-edge compare` was asked to; all outputs are written.

    Raises:
        UsageError: an option that is about classifiers.
        VitEdgeError: as in `compare_embedders`.
    """
    start = time.perf_counter()
    if args.report is not None:
        raise UsageError(
            "--report looks into classifiers: leave it out; --json holds every figure of embedders"
        )
    tolerance = embedding_tolerance(args, wanted=True)
    earlier = earlier_looks((models[0].sha256, models[1].sha256), args.json)
    settings = settings_from(
        args, CompareSettings, session=session_settings(args), spread=spread_of(args), earlier=earlier
    )
    class_ids = None if args.class_ids is None else read_class_ids(args.class_ids)
    images = read_grouped(args.data, class_ids, args.limits)
    if args.limit is not None:
        images = images.limited(args.limit)
    with progress(args.quiet) as tell:
        comparison = compare_embedders(*models, images, tolerance, settings, step_of(tell, "compare"))
    if not remember(comparison.pair, comparison.history):
        print("note: this look cannot be remembered in the user's cache; keep --json FILE", file=sys.stderr)
    write_json(args.json, comparison.to_json())
    if args.junit is not None:
        seconds = time.perf_counter() - start
        write_text("--junit", args.junit, embedding_junit(comparison.report, args.quant, seconds))
    print(pairs(embedding_figures(comparison)))
    return comparison.report.verdict


def embedding_figures(comparison: EmbeddingComparison) -> Rows:
    """What `vit-edge compare` prints of embedders, the verdict last."""
    report = comparison.report
    known = "labelled" if report.labelled else "unlabelled"
    rows = [*model_rows(comparison.models), ("images", f"{report.n} ({known})")]
    rows += copy_rows(comparison.copies)
    if comparison.place.again:
        text = (
            f"number {comparison.place.number} at these models, {comparison.place.known} of the images seen "
            f"before: the verdict needs {100 * report.tolerance.confidence:.4g} % confidence"
        )
        rows.append(("look", text))
    rows += [("note", note) for note in comparison.notes]
    rows.append(("search", f"{report.queries} images among {report.gallery} others"))
    rows += [(each.output, f"{criterion_sentence(each)}: {each.verdict.value}") for each in report.criteria]
    rows.append(("verdict", embedding_claim(report)))
    if report.verdict is Verdict.UNDECIDED:
        rows.append(("would decide", more_images(report.images_needed)))
    return rows


def embedding_claim(report: EmbeddingReport) -> str:
    """The verdict and how many criteria it is about."""
    passed = sum(each.verdict is Verdict.PASS for each in report.criteria)
    return f"{report.verdict.value}, {passed} of {len(report.criteria)} criteria pass"


def criterion_sentence(figures: CriterionFigures) -> str:
    """One criterion: what was found, how surely, and what is asked for."""
    criterion = figures.criterion
    what, limit = criterion.words, criterion.shown_limit(figures.limit)
    if figures.found is None or figures.ci95 is None:
        return f"{what}, {limit}: too few images"
    low, high = (criterion.shown(value) for value in figures.ci95)
    found = f"{what} {criterion.shown(figures.found)} (95 % interval {low} to {high}), {limit}"
    if figures.accuracy_float is None:
        return found
    return f"{found}; {percent(figures.accuracy_float)} float, {percent(figures.accuracy_quant)} quantized"


def embedding_junit(report: EmbeddingReport, quant: Path, seconds: float) -> str:
    """One test suite with a test for each criterion; UNDECIDED is a failure that says what would decide.

    Args:
        report: of the gate.
        quant: the embedder judged.
        seconds: that the comparison took.
    """
    properties = {"verdict": report.verdict.value, "n": str(report.n), "scenes": str(report.scenes)}
    for each in report.criteria:
        if each.found is not None and each.ci95 is not None:
            name = f"{each.output}.{each.criterion.value}"
            ends = {f"{name}_ci95_low": each.ci95[0], f"{name}_ci95_high": each.ci95[1]}
            properties |= {key: str(value) for key, value in ({name: each.found} | ends).items()}
    return suite_xml(properties, [_check(each, quant) for each in report.criteria], seconds)


def _check(figures: CriterionFigures, quant: Path) -> Check:
    criterion = figures.criterion
    title = f"{quant} {figures.output}: {criterion.words} {criterion.shown_limit(figures.limit)}"
    if figures.verdict is Verdict.PASS:
        return Check(title, figures.verdict, None)
    sentence = f"{figures.verdict.value}: {criterion_sentence(figures)}, on {figures.images} images"
    if figures.verdict is Verdict.UNDECIDED:
        sentence += f"; would decide: {more_images(figures.images_needed)}"
    return Check(title, figures.verdict, sentence)


def embedder_lines(embedder: EmbedderRecord | None) -> list[str]:
    """The verdict on the INT8 embedder, and each criterion that does not pass."""
    if embedder is None or embedder.report is None:
        return []
    report = embedder.report
    lines = [f"embedder: {embedding_claim(report)}", *criterion_lines("embedder", report)]
    if report.verdict is Verdict.UNDECIDED:
        lines.append(f"embedder: would decide: {more_images(report.images_needed)}")
    return [*lines, *([f"embedder: INT8 is left out: {embedder.left_out}"] if embedder.left_out else [])]


def criterion_lines(what: str, report: EmbeddingReport) -> list[str]:
    """Each criterion that does not pass."""
    return [
        f"{what}: {each.output}: {criterion_sentence(each)}: {each.verdict.value}"
        for each in report.criteria
        if each.verdict is not Verdict.PASS
    ]
