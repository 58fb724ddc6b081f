"""A comparison in words: the rows that are printed."""

from collections.abc import Sequence
from pathlib import PurePath

from vit_edge.gate_report import ExpectedDrop, GateReport, LabelFigures, ValueFigures
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.views import Copies
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import Verdict
from vit_edge.verify import words
from vit_edge.verify.judged import Judged, would_decide
from vit_edge.verify.words import error_of_confidence, percent

Rows = list[tuple[str, str]]

_WORST = 3  # classes that are named


def figures(comparison: Comparison) -> Rows:
    """What `vit-edge compare` prints, the verdict last."""
    report = comparison.report
    rows = [
        *model_rows(comparison.models),
        _images(comparison),
        *copy_rows(comparison.copies),
        *_look(comparison),
    ]
    rows += [("note", note) for note in comparison.notes]
    rows += [*_accuracy(report), *_likeness(comparison), *_expected(report), *_classes(report)]
    rows.append(("verdict", f"{report.verdict.value} for {Judged.of(report).claim}"))
    if report.verdict is Verdict.UNDECIDED:
        rows.append(("would decide", would_decide(report)))
    return rows


def model_rows(models: tuple[ModelFile, ModelFile] | None) -> Rows:
    """Which file is judged against which."""
    if models is None:
        return []
    return [(name, str(model.path)) for name, model in zip(("float", "quantized"), models, strict=True)]


def copy_rows(copies: Copies | None) -> Rows:
    """Nothing where every image is one of its own."""
    rows: Rows = []
    if copies is None:
        return rows
    if copies.left_out:
        text = f"{copies.left_out} images repeat another one and are not counted ({_group(copies.groups)})"
        if copies.contradicting:
            text += f"; {copies.contradicting} of them bear another label"
        rows.append(("copies", text))
    if copies.similar:
        images = sum(map(len, copies.similar))
        how = "said to be independent" if copies.apart else "each scene counts as one image"
        text = f"{images} images show {len(copies.similar)} scenes ({_group(copies.similar)}); {how}"
        rows.append(("scenes", text if copies.apart else f"{copies.scenes} independent: {text}"))
    return rows


def _group(groups: Sequence[Sequence[str]]) -> str:
    """The largest one, as an example."""
    largest = max(groups, key=len)
    names = ", ".join(PurePath(name).name for name in largest[:_WORST])
    return f"such as {names}{', ...' if len(largest) > _WORST else ''}"


def _look(comparison: Comparison) -> Rows:
    """Nothing at a first look, or at images that nobody has looked at."""
    place = comparison.place
    if place is None or not place.again:
        return []
    text = (
        f"number {place.number} at these models, {place.known} of the images seen before: intervals hold for "
        "any number of looks (confidence sequence)"
    )
    if place.left_out:
        confidence = 100 * comparison.report.evidence.tolerance.confidence
        text += f"; images of earlier looks are left out, so the verdict needs {confidence:.4g} % confidence"
    return [("look", text)]


def _images(comparison: Comparison) -> tuple[str, str]:
    report = comparison.report
    known = "unlabelled" if report.drop is None else "with truth" if report.evidence.truth else "labelled"
    if comparison.available == report.n or not comparison.stopped:
        return "images", f"{report.n} ({known})"
    return "images", f"{report.n} of {comparison.available} ({known}), in random order until decided"


def _accuracy(report: GateReport) -> Rows:
    """Nothing without labels."""
    interval, evidence = report.drop_ci95, report.evidence
    if evidence.values is not None:
        return value_rows(report, evidence.values)
    if evidence.maps:
        return words.map_rows(evidence)
    if interval is None:
        return []
    if evidence.labels is not None:
        return label_rows(report, evidence.labels)
    rows = [
        ("top-1", _both(report.top1_float, report.top1_quant)),
        (
            "drop",
            f"{report.drop:.2f} points (95 % interval {words.interval(interval)}), "
            f"{evidence.only_float_right} images lost, {evidence.only_quant_right} gained",
        ),
        (
            "calibration",
            f"{_both(evidence.ece_float, evidence.ece_quant)} (expected error)"
            f"{error_of_confidence(evidence.ece_float)}",
        ),
    ]
    if report.top5_float is not None:
        rows.insert(1, ("top-5", _both(report.top5_float, report.top5_quant)))
    return rows


def label_rows(report: GateReport, found: LabelFigures) -> Rows:
    """Of a model of several labels."""
    lost, gained = report.evidence.only_float_right, report.evidence.only_quant_right
    return [
        ("exact match", f"{_both(found.exact_float, found.exact_quant)} (all labels right at 0.5)"),
        (
            "drop",
            f"{report.drop:.2f} points (95 % interval {words.interval(report.drop_ci95 or (0.0, 0.0))}), "
            f"{lost} images lost, {gained} gained",
        ),
        (
            "label accuracy",
            f"{_both(found.accuracy_float, found.accuracy_quant)} "
            f"(drop, 95 % interval: {words.interval(found.accuracy_drop_ci95)} points)",
        ),
        ("F1 micro", _both(found.f1_micro_float, found.f1_micro_quant)),
        ("F1 macro", _both(found.f1_macro_float, found.f1_macro_quant)),
    ]


def value_rows(report: GateReport, found: ValueFigures) -> Rows:
    """Of a model of values."""
    spans = ", ".join(f"{span:.4g}" for span in found.spans[:_WORST])
    rows = [
        ("change", f"{found.mean_change:.4g} on average, {found.largest_change:.4g} at most"),
        ("range", f"{spans}{', ...' if len(found.spans) > _WORST else ''}: what percentages refer to"),
    ]
    if found.error_float is not None and report.drop_ci95 is not None:
        rows.append(
            (
                "mean error",
                f"{found.error_float:.4g} float, {found.error_quant:.4g} quantized: grows by "
                f"{percent(report.drop)} of the range (95 % interval {words.interval(report.drop_ci95)})",
            )
        )
    return rows


def _both(of_float: float | None, of_quant: float | None) -> str:
    return f"{percent(of_float)} float, {percent(of_quant)} quantized"


def _likeness(comparison: Comparison) -> Rows:
    report = comparison.report
    away = report.evidence.disagreement_ci95
    ratio, kl = report.to_json()["logit_sqnr_db"], report.evidence.mean_kl
    return [
        (
            "agreement",
            f"{percent(report.agreement)} (disagreement, 95 % interval: {words.interval(away, ' %')})",
        ),
        ("logit SQNR", "identical logits" if ratio is None else words.decibel(ratio)),
        *([] if kl is None else [("divergence", f"{kl:.2g} nats (mean KL)")]),
    ]


def _expected(report: GateReport) -> Rows:
    """What the float model's own probabilities say, and whether labels bear it out."""
    expected = report.evidence.expected
    if expected is None:
        return []
    text = f"{expected.drop:.2f} points by the float model's own probabilities"
    if expected.ci95 is not None:
        text += f" (95 % interval {words.interval(expected.ci95)})"
    rows = [("expected drop", f"{text}, {assumption(expected, report.evidence.tolerance.max_drop)}")]
    tested = expected.calibration
    if tested is not None:
        text = (
            f"temperature {expected.temperature:.2f}; on {tested.images} images that could flip the answer "
            f"is right {tested.found:.1f} points more often than its rival, claimed {tested.claimed:.1f} "
            f"(p = {tested.p_value:.2g})"
        )
        rows.append(("assumption", text))
    if report.evidence.contradicted:
        rows.append(
            ("contradiction", "the labels contradict the expected drop; the verdict is that of the labels")
        )
    return rows


def assumption(expected: ExpectedDrop, limit: float) -> str:
    """The verdict under the assumption, and how wrong that may be."""
    told = "if they are right" if expected.fitted else "if they are right (no labels have tested them)"
    if expected.verdict is None:
        return told
    words = f"{expected.verdict.value} for at most {limit:g} points {told}"
    if expected.verdict is Verdict.PASS and expected.factor is None:
        return f"{words}: nothing changed, and with this noise nothing can"
    if expected.factor is None:
        return words
    if expected.verdict is Verdict.PASS:
        return f"{words}: unless the changed images cost more than {expected.factor:.1f} times what it claims"
    return (
        f"{words}: unless it is overconfident on the changed images by more than {expected.factor:.1f} times"
    )


def _classes(report: GateReport) -> Rows:
    """Nothing without labels, or where no class lost."""
    rows = []
    if report.worst_classes:
        named = [
            f"{each.label} ({each.drop:.0f} points of {each.n})" for each in report.worst_classes[:_WORST]
        ]
        rows.append(("worst classes", ", ".join(named)))
    mix = report.evidence.mix
    if mix is not None and not mix.even:
        text = (
            f"{mix.classes} classes of {mix.fewest} to {mix.most} images: the verdict speaks of this mix; "
            f"with every class weighed alike the drop is {mix.balanced_drop:.2f} points"
        )
        rows.append(("mix", text))
    if report.evidence.significant_classes:
        named = [f"{each.label} (p = {each.p_adjusted:.2g})" for each in report.evidence.significant_classes]
        more = f" and {len(named) - _WORST} more" if len(named) > _WORST else ""
        rows.append(("beyond chance", ", ".join(named[:_WORST]) + more))
    return rows
