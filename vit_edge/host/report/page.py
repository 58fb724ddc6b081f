"""The whole page: one file without script or network, the same facts as JSON inside."""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from vit_edge.host.report.accuracy import accuracy, changed, flips
from vit_edge.host.report.embeddings import embeddings
from vit_edge.host.report.facts import Facts
from vit_edge.host.report.figures import TIMES, percent
from vit_edge.host.report.findings import findings
from vit_edge.host.report.inside import layers, origin, ranges, recipe, search
from vit_edge.host.report.speed import speed
from vit_edge.host.templates import html
from vit_edge.host.templates import render as filled
from vit_edge.source_parity import ProofState, SourceParity
from vit_edge.spec import Verdict
from vit_edge.verify.judged import sentences

JSON_ID = "facts"
_TONES = {  # of what is known of a step
    ProofState.PROVEN.value: "pass",
    ProofState.DIFFERS.value: "fail",
    ProofState.NOT_PROVEN.value: "undecided",
    **{verdict.value: verdict.value.lower() for verdict in Verdict},
}
_SECTIONS = (
    accuracy,
    findings,
    flips,
    speed,
    search,
    layers,
    ranges,
    embeddings,
    recipe,
    origin,
)


def render(facts: Facts) -> str:
    """The report as one HTML document; the same facts give the same bytes.

    The element `<script type="application/json" id="facts">` holds `facts.to_json()`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    parity = facts.source_parity
    values = {
        "facts": facts,
        "verdict": facts.gate.verdict.value,
        "sentences": sentences(facts.gate),
        "style": Markup(_style()),  # noqa: S704  a file of the package
        "steps": _step("float", parity.state.value) + _step("INT8", facts.gate.verdict.value),
        "reason": _reason(parity),
        "tiles": _tiles(facts),
        "sections": Markup().join(section(facts) for section in _SECTIONS),
        "version": facts.versions.get("vit-edge", ""),
        "json_id": JSON_ID,
        "data": _data(facts.to_json()),
    }
    return filled("report/page.html.j2", values)


def with_source_parity(page: str, parity: SourceParity) -> str:
    """A rendered page with another proof source → float; the rest of it stays as it is.

    Raises:
        ValueError: no page that this version of `render` has written.
    """
    before, opening, rest = page.partition(f'<script type="application/json" id="{JSON_ID}">')
    text, closing, after = rest.partition("</script>")
    facts = json.loads(text)
    old = SourceParity.from_json(facts["source_parity"]) if isinstance(facts, dict) else parity
    pairs = (
        (_step("float", old.state.value), _step("float", parity.state.value)),
        (_reason(old), _reason(parity)),
    )
    for known, new in pairs:
        if before.count(str(known)) != 1:
            raise ValueError("the page does not show what its data says")
        before = before.replace(str(known), str(new))
    return before + opening + str(_data(facts | {"source_parity": parity.to_json()})) + closing + after


def _style() -> str:
    return importlib.resources.files("vit_edge.host.report").joinpath("style.css").read_text(encoding="utf-8")


def _step(to: str, state: str) -> Markup:
    """From source to float or from float to INT8, and what is known of it."""
    return html("report/step.html.j2", {"to": to, "state": state, "tone": _TONES[state]})


def _reason(parity: SourceParity) -> Markup:
    return html("report/reason.html.j2", {"parity": parity})


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """Term, figure and what stands below it."""
    reference, judged, gate = facts.reference_model, facts.judged_model, facts.gate
    rows = [
        ("Agreement with float", percent(gate.agreement), f"{changed(facts)} changed"),
        (
            "Latency",
            f"{TIMES} {judged.ratio.median:.2f}",
            _times(reference.latency.median_ms, judged.latency.median_ms, "ms"),
        ),
        (
            "File size",
            f"{TIMES} {judged.size_mb / reference.size_mb:.2f}",
            _times(reference.size_mb, judged.size_mb, "MB"),
        ),
    ]
    if gate.top1_quant is not None:
        rows.insert(0, ("Top-1 accuracy", percent(gate.top1_quant), f"float: {percent(gate.top1_float)}"))
    return rows


def _times(before: float, after: float, unit: str) -> str:
    return f"{before:.2f} → {after:.2f} {unit}"


def _data(facts: Mapping[str, Any]) -> Markup:
    text = json.dumps(facts, allow_nan=False, indent=1, ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  no tag can end the element
