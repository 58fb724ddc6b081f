"""The whole page: one file without script or network, the same facts as JSON inside."""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from vit_edge.host.report.accuracy import accuracy, changed, flips, percent
from vit_edge.host.report.embeddings import embeddings
from vit_edge.host.report.facts import Facts
from vit_edge.host.report.findings import findings
from vit_edge.host.report.html import TIMES, Html, el, escaped, join
from vit_edge.host.report.inside import layers, origin, ranges, recipe, search
from vit_edge.host.report.speed import speed
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
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser then fetches nothing


def render(facts: Facts) -> str:
    """The report as one HTML document; the same facts give the same bytes.

    The element `<script type="application/json" id="facts">` holds `facts.to_json()`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    body = el(
        "body",
        _header(facts),
        el(
            "main",
            accuracy(facts),
            findings(facts),
            flips(facts),
            speed(facts),
            search(facts),
            layers(facts),
            ranges(facts),
            embeddings(facts),
            recipe(facts),
            origin(facts),
        ),
        _footer(facts),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{_head(facts)}{body}</html>\n'


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


def _head(facts: Facts) -> Html:
    style = (
        importlib.resources.files("vit_edge.host.report").joinpath("style.css").read_text(encoding="utf-8")
    )
    return el(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escaped(_POLICY)}">'),
        Html('<link rel="icon" href="data:,">'),  # or a browser asks the server for one
        el("title", f"{facts.gate.verdict.value}: {facts.title}"),
        el("style", Html(style)),
    )


def _header(facts: Facts) -> Html:
    verdict = facts.gate.verdict.value
    return el(
        "header",
        el("p", "Float against INT8", class_="eyebrow"),
        el("h1", facts.title),
        _chain(facts),
        el(
            "div",
            el("strong", verdict),
            el("p", sentences(facts.gate)),
            class_=f"verdict {verdict.lower()}",
        ),
        _shipped(facts),
        _tiles(facts),
    )


def _chain(facts: Facts) -> Html:
    """Source, float and INT8, and what is known of each step from one to the next."""
    parity = facts.source_parity
    steps = [_step("float", parity.state.value), _step("INT8", facts.gate.verdict.value)]
    return join([el("ol", el("li", "source"), *steps, class_="chain"), _reason(parity)])


def _step(to: str, state: str) -> Html:
    return el("li", el("span", "→ ", el("strong", state, class_=f"word {_TONES[state]}"), " → "), to)


def _reason(parity: SourceParity) -> Html:
    return el("p", f"Source to float: {parity.reason}.", class_="muted")


def _shipped(facts: Facts) -> Html:
    if facts.default != facts.reference:
        return Html("")
    return el("p", f"The bundle runs the float model, {facts.default}, unless told otherwise.")


def _tiles(facts: Facts) -> Html:
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
    tiles = [el("div", el("dt", term), el("dd", value, el("small", note))) for term, value, note in rows]
    return el("dl", *tiles, class_="tiles")


def _times(before: float, after: float, unit: str) -> str:
    return f"{before:.2f} → {after:.2f} {unit}"


def _footer(facts: Facts) -> Html:
    data = _data(facts.to_json())
    version = facts.versions.get("vit-edge", "")
    made = f"Made by vit-edge {version}. Every figure on this page is in its source as JSON."
    return join([el("footer", el("p", made)), el("script", data, type="application/json", id=JSON_ID)])


def _data(facts: Mapping[str, Any]) -> Html:
    text = json.dumps(facts, allow_nan=False, indent=1, ensure_ascii=True)
    return Html(text.replace("<", "\\u003c"))  # no tag can end the element
