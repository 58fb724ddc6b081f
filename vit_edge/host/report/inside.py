"""The sections on the model itself: decisions per layer, ranges, what was tried, recipe and origin."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vit_edge import plain
from vit_edge.host.report.accuracy import decibel
from vit_edge.host.report.charts import FORMS, GLYPHS, pareto, sensitivities
from vit_edge.host.report.facts import Facts, WorstInput
from vit_edge.host.report.html import NONE, TIMES, Html, el, join, table
from vit_edge.host.report.range_charts import activation, activation_noise, weight
from vit_edge.host.report.spelled import spelled
from vit_edge.manifest import Seen

_FORM_WORDS = {
    "int8": "INT8, one range",
    "int8_row": "INT8, one scale per token",
    "float32": "float",
    "tanh": "tanh form of GELU",
}
_COLUMNS: dict[str, Callable[[Seen], str | None]] = {  # None: there is nothing to say of this one
    "model": lambda seen: f"{seen.name} (chosen)" if seen.chosen else seen.name,
    "verdict": lambda seen: None if seen.verdict is None else seen.verdict.value,
    "drop": lambda seen: _figure(seen.top1_drop, " points"),
    "agreement": lambda seen: _figure(seen.agreement, " %"),
    "SQNR": lambda seen: _figure(seen.sqnr_db, " dB"),
    "against float": lambda seen: _figure(seen.latency_ratio),
    "size": lambda seen: _figure(seen.size_mb, " MB"),
    "why": lambda seen: seen.reason,
}


def layers(facts: Facts) -> Html:
    """What was decided per layer, and how much each one matters."""
    if not facts.layers:
        text = (
            f"{facts.judged} does not record what was decided for its layers or how sensitive they are; "
            "a bundle from vit-edge build does. What can be read from the file itself follows."
        )
        return el("section", el("h2", "Layers"), el("p", text))
    counts = Counter(layer.form for layer in facts.layers)
    key = [_key(form, count) for form, count in counts.items()]
    panels = sensitivities(facts.layers)
    rows = [
        [
            layer.name,
            _FORM_WORDS.get(layer.form, layer.form),
            decibel(layer.sensitivity_db),
            layer.static_range or NONE,
            layer.reason,
        ]
        for layer in facts.layers
    ]
    heads = ["layer", "form", "alone in static INT8", "range found by", "why this form"]
    return el(
        "section",
        el("h2", "Layers"),
        el(
            "p",
            "Each mark is a layer at its block: how far the logits stay above the quantization noise, in dB, "
            "with that layer alone in INT8 with one range. Low marks are layers that suffer; the shape "
            "is the form that was chosen.",
        ),
        el("ul", *key, class_="key"),
        el("div", *panels, class_="panels"),
        el("details", el("summary", f"All {len(rows)} decisions"), table("Decisions", heads, rows)),
    )


def _key(form: str, count: int) -> Html:
    marker, colour = FORMS.get(form, ("x", None))
    tone = "var(--bad)" if colour is None else colour.variable
    glyph = el("b", GLYPHS.get(marker, TIMES), style=f"--tone: {tone}")
    return el("li", glyph, f" {_FORM_WORDS.get(form, form)}: {count}")


def ranges(facts: Facts) -> Html:
    """Activations against what their integers hold."""
    found = facts.ranges
    title = el("h2", "Ranges")
    if not found.activations:
        text = f"No quantized operand of a product was found in {facts.judged}, so no range can be shown."
        return el("section", title, el("p", text))
    pairs = []
    for place, each in enumerate(facts.worst):
        charts = [activation(f"activation{place}", each.activation)]
        if each.weight is not None:
            charts.append(weight(f"weight{place}", each.weight))
        pairs.append(join([el("h3", _heading(each)), el("div", *charts, class_="charts")]))
    by = "are most sensitive" if facts.layers else "lose most"
    return el(
        "section",
        title,
        activation_noise(found),
        el("p", f"The {len(pairs)} inputs of layers that {by}, counts on a logarithmic scale:"),
        *pairs,
    )


def _heading(each: WorstInput) -> str:
    second = ", second factor" if each.activation.second else ""
    if each.decision is None:
        return f"{each.activation.layer}{second}"
    alone = f"{decibel(each.decision.sensitivity_db)} alone in static INT8"
    form = _FORM_WORDS.get(each.decision.form, each.decision.form)
    return f"{each.decision.name}{second}: {alone}, now {form}"


def search(facts: Facts) -> Html:
    """The models that were tried before this one was chosen; nothing where there was no search."""
    if facts.recipe is None:
        return Html("")
    repair, seen = facts.recipe.repair, facts.recipe.pareto
    cells = {head: [cell(each) for each in seen] for head, cell in _COLUMNS.items()}
    told = {head: column for head, column in cells.items() if any(cell is not None for cell in column)}
    rows = [
        [str(number), *(cell or NONE for cell in row)]
        for number, row in enumerate(zip(*told.values(), strict=True), 1)
    ]
    drawn = pareto(seen)
    return el(
        "section",
        el("h2", "The choice"),
        el("p", f"{facts.default or facts.judged} runs by default: {repair.reason}."),
        table("Candidates", ["", *told], rows) if rows else "",
        drawn if drawn is not None else "",
        el("h3", "How it was looked for"),
        _structure(plain.of(repair)),
    )


def _figure(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:.2f}{unit}"


def recipe(facts: Facts) -> Html:
    """How it was quantized."""
    if facts.recipe is None:
        text = f"{facts.judged} does not record how it was quantized."
        return el("section", el("h2", "Recipe"), el("p", text))
    return el("section", el("h2", "Recipe"), _structure(facts.plain_recipe))


def origin(facts: Facts) -> Html:
    """Versions and machine."""
    machine = facts.machine
    rows = {
        "processor": f"{machine.cpu}, {machine.cores} cores",
        "instruction sets": ", ".join(machine.flags) or "not known",
        "system": machine.system,
        "Python": machine.python,
        **facts.versions,
    }
    files = [[model.name, el("code", model.sha256)] for model in facts.models]
    return el(
        "section",
        el("h2", "Versions and machine"),
        _structure(rows),
        table("Files", ["file", "SHA-256"], files),
    )


def _structure(value: Any) -> Html:
    """Plain JSON as a list of terms; what is long is counted, as the JSON below holds it."""
    if isinstance(value, Mapping):
        parts = [
            el("div", el("dt", spelled(str(key))), el("dd", _words(each)))
            for key, each in value.items()
            if each is not None
        ]
        return el("dl", *parts, class_="facts")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return el("ul", *(el("li", _words(each)) for each in value))
    return el("p", _words(value))


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping) and len(value) <= 8:
        return ", ".join(f"{spelled(str(key))}: {_words(each)}" for key, each in value.items())
    if isinstance(value, Mapping | list | tuple):
        return f"{len(value)} entries" if len(value) != 1 else _words(*value)
    return NONE if value is None else str(value)
