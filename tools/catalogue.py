"""Keeps what is known of measured models: vit_edge/catalogue/models.json, docs/catalogue.md and cards.

python -m tools.catalogue record BUNDLE --slug vit_tiny --name "ViT-Tiny/16" --licence Apache-2.0
python -m tools.catalogue page

`record` puts what a bundle from `vit-edge build` records of its accuracy and latency beside what is known, in
place of an earlier figure of the same checkpoint on the same kind of machine. The first bundle of a model
leaves its card in models/. Weights and images are never kept.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import vit_edge.catalogue
from vit_edge.bundle import verify_bundle
from vit_edge.catalogue import FileFigures, KnownModel, Measured
from vit_edge.catalogue.models import read_models, to_text
from vit_edge.embedding_report import Criterion
from vit_edge.errors import VitEdgeError
from vit_edge.gate_report import GateReport
from vit_edge.manifest import MODEL_ROLES, AccuracyRecord, Manifest, Role
from vit_edge.spec import Tolerance

ROOT = Path(__file__).resolve().parents[1]
INDEX = Path(vit_edge.catalogue.__file__).with_name("models.json")
PAGE = ROOT / "docs" / "catalogue.md"
HEAD = """# Models that were measured

Written by `python -m tools.catalogue page` from what bundles record of themselves; every figure is of one
`vit-edge build` on the machine beside it. Your own images and your own machine give
others. `vit-edge inspect` shows these figures of a checkpoint, bundle or file that is known here.
"""
_COLUMNS = ["file", "verdict", "top-1", "agreement with float", "logit SQNR", "latency against float", "size"]
_NONE = "\N{EN DASH}"


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        if given.what == "record":
            record(given)
        PAGE.write_text(page(read_models(INDEX.read_text())))
    except (VitEdgeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="catalogue", description=(__doc__ or "").split("\n")[0])
    ways = parser.add_subparsers(dest="what", required=True)
    ways.add_parser("page", help="write docs/catalogue.md anew")
    one = ways.add_parser("record", help="take a bundle's figures")
    one.add_argument("bundle", type=Path)
    one.add_argument("--slug", required=True, help="folder below models/")
    one.add_argument("--name", required=True, help="what people call the model")
    one.add_argument("--licence", required=True, help="of its weights")
    return parser


def record(given: argparse.Namespace) -> None:
    """Put a bundle's figures and card into the repository."""
    bundle = verify_bundle(given.bundle)
    found = measured(bundle.manifest)
    known = read_models(INDEX.read_text())
    source = bundle.manifest.source.sha256
    old = next((model for model in known if model.source_sha256 == source), None)
    others = () if old is None else tuple(each for each in old.measured if each.on != found.on)
    new = KnownModel(given.slug, given.name, given.licence, source, (*others, found))
    rest = tuple(model for model in known if model is not old)
    INDEX.write_text(to_text(tuple(sorted((*rest, new), key=lambda model: model.slug))))
    card = ROOT / "models" / given.slug / "README.md"
    if not card.exists():
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text(card_of(new, bundle.manifest))


def measured(manifest: Manifest) -> Measured:
    """What a bundle records.

    Raises:
        ValueError: it records neither accuracy nor the machine.
    """
    machine = next((each.environment for each in manifest.latency if each.environment), None)
    accuracy = manifest.accuracy
    if accuracy is None or machine is None:
        raise ValueError("the bundle does not record accuracy and machine")
    models = [name for name, entry in manifest.files.items() if entry.role in MODEL_ROLES]
    judged = [name for name in models if name in accuracy.models]
    portable_first = sorted(judged, key=lambda name: manifest.files[name].role is not Role.QUANTIZED)
    return Measured(
        accuracy.data.name,
        accuracy.data.images,
        accuracy.data.labelled,
        machine,
        manifest.tools,
        tuple(_file(manifest, accuracy, name) for name in (accuracy.reference, *portable_first)),
        Tolerance() if accuracy.report.evidence.embeddings else accuracy.tolerance,  # theirs is another
    )


def _file(manifest: Manifest, accuracy: AccuracyRecord, name: str) -> FileFigures:
    entry, report = manifest.files[name], accuracy.models.get(name)
    timed = next((each for each in manifest.latency if each.path == name), None)
    top1 = accuracy.report.top1_float if report is None else report.top1_quant
    noise = None if report is None or math.isinf(report.logit_sqnr_db) else report.logit_sqnr_db
    return FileFigures(
        name,
        entry.sha256,
        entry.size / 1e6,
        None if report is None else report.verdict,
        top1,
        None if report is None else report.agreement,
        noise,
        None if timed is None else timed.ratio_to_float,
        None if timed is None else timed.ratio_interval,
        _lowest(report, Criterion.COSINE),
        _lowest(report, Criterion.RECALL),
    )


def _lowest(report: GateReport | None, criterion: Criterion) -> float | None:
    """Of all outputs of a model of embeddings; None of another model."""
    own = None if report is None else report.evidence.embeddings
    found = [] if own is None else [each.found for each in own.criteria if each.criterion is criterion]
    return min((value for value in found if value is not None), default=None)


def card_of(model: KnownModel, manifest: Manifest) -> str:
    """Of a model whose weights are elsewhere."""
    spec, accuracy = manifest.preprocess, manifest.accuracy
    findings = [f"* `{each.code.value}` ({each.severity.value}): {each.what}" for each in manifest.findings]
    notes = [*manifest.source.notes, *(() if accuracy is None else accuracy.notes)]
    lines = [
        f"# {model.name}",
        f"The weights are not kept here ({model.licence}); their SHA-256 is `{model.source_sha256}`.",
        f"[What was measured](../../docs/catalogue.md#{anchor(model.name)}).",
        "",
        "| | |",
        "|---|---|",
        f"| answers | {manifest.output.value} |",
        f"| input | {spec.height}x{spec.width}, {spec.resize_mode.value}, {spec.interpolation.value} |",
        f"| normalisation | mean {list(spec.mean)}, std {list(spec.std)} |",
        f"| source to float | {manifest.source_parity} |",
    ]
    if notes:
        lines += ["", "Decided without the source saying so:", "", *(f"* {note}" for note in notes)]
    if findings:
        lines += ["", "Known pitfalls that `build` found:", "", *findings]
    return "\n".join(lines) + "\n"


def anchor(title: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def page(models: Sequence[KnownModel]) -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for model in models for line in _model(model))])


def _model(model: KnownModel) -> list[str]:
    card = f"[card](../models/{model.slug}/README.md)"
    lines = [f"## {model.name}", f"Checkpoint `{model.source_sha256}`, {model.licence}; {card}.", ""]
    for each in model.measured:
        images = f"{each.images} {'labelled' if each.labelled else 'unlabelled'} images of `{each.data}`"
        images += f", judged with {each.asked}" if each.asked else ""
        versions = ", ".join(f"{name} {each.versions[name]}" for name in ("vit-edge", "onnxruntime", "torch"))
        lines += [
            f"{each.on}, {each.machine.cores} cores, {versions}; {images}:",
            "",
            f"| {' | '.join(_COLUMNS)} |",
            "|---" * len(_COLUMNS) + "|",
            *(f"| {' | '.join(_cells(file))} |" for file in each.files),
            "",
        ]
    return lines


def _cells(file: FileFigures) -> list[str]:
    reach = file.ratio_interval
    within = "" if reach is None or reach[0] == reach[1] else f" ({reach[0]:.2f} to {reach[1]:.2f})"
    return [
        f"`{file.path}`",
        "reference" if file.verdict is None else file.verdict.value,
        _figure(file.top1, " %"),
        _figure(file.agreement, " %") if file.recall_at_10 is None else file.answers,
        _figure(file.sqnr_db, " dB", 1),
        _figure(file.ratio, "") + within,
        _figure(file.size_mb, " MB"),
    ]


def _figure(value: float | None, unit: str, places: int = 2) -> str:
    return _NONE if value is None else f"{value:.{places}f}{unit}"


if __name__ == "__main__":
    sys.exit(main())
