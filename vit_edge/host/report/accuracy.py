"""The sections on accuracy: the verdict in words, the figures, and the images whose answer changed."""

from collections.abc import Sequence

from markupsafe import Markup

from vit_edge.gate_report import ClassDrop, Evidence, GateReport
from vit_edge.host.report.charts import intervals
from vit_edge.host.report.facts import Facts
from vit_edge.host.report.figures import NONE, decibel, percent, verdict_word
from vit_edge.host.templates import html
from vit_edge.verify import words


def accuracy(facts: Facts) -> Markup:
    """Figures of every model, their intervals and what stands behind them."""
    judged = [(model.name, model.gate) for model in facts.models if model.gate is not None]
    heads = ["model", "verdict", "agreement", "logit SQNR"]
    right = facts.labelled and facts.gate.drop is not None  # what is right or wrong; embeddings are neither
    if right:
        heads[2:2] = ["top-1", "top-5", "drop (95 % interval)"]
    first = facts.gate
    reference = [facts.reference, "reference", NONE, NONE]
    if right:
        reference[2:2] = [percent(first.top1_float), percent(first.top5_float), NONE]
    rows: list[Sequence[str]] = [reference, *(_row(name, gate, right) for name, gate in judged)]
    kind = "labelled" if facts.labelled else "unlabelled"
    origin = ", held out of the calibration images" if facts.held_out else ""
    worst = facts.gate.worst_classes
    values = {
        "facts": facts,
        "caption": f"On {first.n} {kind} images ({facts.data}){origin}",
        "heads": heads,
        "rows": rows,
        "intervals": intervals(facts.models, first.limit),
        "evidence": _evidence(facts),
        "classes": [_class(each) for each in worst],
        "chance": _chance(worst),
    }
    return html("report/accuracy.html.j2", values)


def _row(name: str, gate: GateReport, labelled: bool) -> list[str]:
    cells = [name, verdict_word(gate.verdict), percent(gate.agreement), decibel(gate.logit_sqnr_db)]
    if labelled and gate.drop_ci95 is not None:
        drop = f"{gate.drop:.2f} ({words.interval(gate.drop_ci95)})"
        cells[2:2] = [percent(gate.top1_quant), percent(gate.top5_quant), drop]
    return cells


def _of_kind(evidence: Evidence) -> list[tuple[str, str]]:
    """What only models of single labels, of several, or of values have."""
    if evidence.embeddings is not None:
        return []  # a section of their own
    if evidence.maps:
        return words.map_rows(evidence)
    rows = [] if evidence.mean_kl is None else [("mean KL divergence", f"{evidence.mean_kl:.2g} nats")]
    if evidence.values is not None:
        found = evidence.values
        change = f"{found.mean_change:.4g} on average, {found.largest_change:.4g} at most"
        rows.append(("change of the values", change))
    if evidence.labels is not None:
        sets = evidence.labels
        rows += [
            ("all labels right", f"{percent(sets.exact_float)} float, {percent(sets.exact_quant)} INT8"),
            ("F1 (micro)", f"{percent(sets.f1_micro_float)} float, {percent(sets.f1_micro_quant)} INT8"),
        ]
    return rows


def changed(facts: Facts) -> str:
    """How many answers are others; of values and maps, which have no answers, the share that was lost."""
    gate = facts.gate
    if gate.evidence.maps or gate.evidence.embeddings is not None:
        return f"{percent(100.0 - gate.agreement)} of images"
    if gate.evidence.values is not None:
        return f"{percent(100.0 - gate.agreement)} of the range"
    return f"{facts.flips_total} of {gate.n}"


def _evidence(facts: Facts) -> list[tuple[str, str]]:
    evidence = facts.gate.evidence
    away = words.interval(evidence.disagreement_ci95, " %")
    rows = [("changed answers", f"{changed(facts)} (95 % interval {away})")]
    rows += _of_kind(evidence)
    if evidence.only_float_right is not None:
        rows += [
            ("only float was right", _images(evidence.only_float_right)),
            ("only INT8 was right", _images(evidence.only_quant_right)),
        ]
    if evidence.mcnemar_p is not None:
        rows.append(("McNemar's exact test", f"p = {evidence.mcnemar_p:.2g} for no difference at all"))
    if evidence.ece_float is not None:
        both = f"{percent(evidence.ece_float)} float, {percent(evidence.ece_quant)} INT8"
        rows.append(("calibration error (ECE)", both + words.error_of_confidence(evidence.ece_float)))
    expected = evidence.expected
    if expected is not None and expected.ci95 is not None:
        reach = words.interval(expected.ci95)
        text = f"{expected.drop:.2f} points (95 % interval {reach}), if float's probabilities are right"
        tested = expected.calibration
        text += "" if tested is None else f"; calibration on near ties p = {tested.p_value:.2g}"
        rows.append(("expected drop", text + ("; the labels contradict it" if evidence.contradicted else "")))
    if evidence.scenes is not None:
        rows.append(("independent scenes", f"{evidence.scenes}, each counted as one image"))
    if evidence.mix is not None and not evidence.mix.even:
        sizes = f"{evidence.mix.fewest} to {evidence.mix.most} images"
        rows.append(
            ("class sizes", f"{sizes}; all classes weighed alike: {evidence.mix.balanced_drop:.2f} points")
        )
    if evidence.sequential:
        rows.append(("stopping", "looked on until decided; the intervals allow for that"))
    return rows


def _images(count: int | None) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _chance(worst: Sequence[ClassDrop]) -> str:
    """What the p-values say together."""
    if any(each.significant for each in worst):
        return ""
    if any(each.p_adjusted is None for each in worst):
        return "Looking on until decided leaves no test of single classes."
    return "None of these losses is more than chance would bring among so many classes."


def _class(each: ClassDrop) -> list[str]:
    adjusted = NONE if each.p_adjusted is None else f"{each.p_adjusted:.2g}"
    return [each.label, str(each.n), f"{each.drop:.1f} points", adjusted]


def flips(facts: Facts) -> Markup:
    """The images whose answer changed, with what either model thought."""
    evidence = facts.gate.evidence
    if evidence.maps or evidence.values is not None or evidence.embeddings is not None:
        return Markup()  # there are no answers that could be others
    return html("report/flips.html.j2", {"facts": facts})
