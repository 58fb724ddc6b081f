"""The sections on the model itself: decisions per layer, ranges, what was tried, recipe and origin."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from vit_edge import plain
from vit_edge.host.report.charts import FORMS, GLYPHS, pareto, sensitivities
from vit_edge.host.report.facts import Facts, WorstInput
from vit_edge.host.report.figures import NONE, TIMES, code, decibel
from vit_edge.host.report.range_charts import activation, activation_noise, weight
from vit_edge.host.report.spelled import spelled
from vit_edge.host.templates import html
from vit_edge.manifest import Seen

_FORM_WORDS = {
    "int8": "INT8, one range",
    "int8_row": "INT8, one scale per token",
    "int8_fine": "INT8, activations in two codes",
    "int8_a16": "INT8, activations of 16 bits",
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


def layers(facts: Facts) -> Markup:
    """What was decided per layer, and how much each one matters."""
    counts = Counter(layer.form for layer in facts.layers)
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
    values = {
        "facts": facts,
        "key": [_key(form, count) for form, count in counts.items()],
        "panels": Markup().join(sensitivities(facts.layers)),
        "rows": rows,
    }
    return html("report/layers.html.j2", values)


def _key(form: str, count: int) -> tuple[str, str, str, int]:
    """Mark, colour, and how many layers have it."""
    marker, colour = FORMS.get(form, ("x", None))
    tone = "var(--bad)" if colour is None else colour.variable
    return GLYPHS.get(marker, TIMES), tone, _FORM_WORDS.get(form, form), count


def ranges(facts: Facts) -> Markup:
    """Activations against what their integers hold."""
    values = {
        "facts": facts,
        "noise": activation_noise(facts.ranges),
        "inputs": [(_heading(each), _charts(place, each)) for place, each in enumerate(facts.worst)],
    }
    return html("report/ranges.html.j2", values)


def _charts(place: int, each: WorstInput) -> Markup:
    charts = [activation(f"activation{place}", each.activation)]
    if each.weight is not None:
        charts.append(weight(f"weight{place}", each.weight))
    return Markup().join(charts)


def _heading(each: WorstInput) -> str:
    second = ", second factor" if each.activation.second else ""
    if each.decision is None:
        return f"{each.activation.layer}{second}"
    alone = f"{decibel(each.decision.sensitivity_db)} alone in static INT8"
    form = _FORM_WORDS.get(each.decision.form, each.decision.form)
    return f"{each.decision.name}{second}: {alone}, now {form}"


def search(facts: Facts) -> Markup:
    """The models that were tried before this one was chosen; nothing where there was no search."""
    if facts.recipe is None:
        return Markup()
    seen = facts.candidates
    cells = {head: [cell(each) for each in seen] for head, cell in _COLUMNS.items()}
    told = {head: column for head, column in cells.items() if any(cell is not None for cell in column)}
    rows = [
        [str(number), *(cell or NONE for cell in row)]
        for number, row in enumerate(zip(*told.values(), strict=True), 1)
    ]
    values = {
        "facts": facts,
        "heads": ["", *told],
        "rows": rows,
        "pareto": pareto(seen),
        "terms": _terms(plain.of(facts.repair)),
    }
    return html("report/choice.html.j2", values)


def _figure(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:.2f}{unit}"


def recipe(facts: Facts) -> Markup:
    """How it was quantized."""
    return html("report/recipe.html.j2", {"facts": facts, "terms": _terms(facts.plain_recipe)})


def origin(facts: Facts) -> Markup:
    """Versions and machine."""
    machine = facts.machine
    rows = {
        "processor": f"{machine.cpu}, {machine.cores} cores",
        "instruction sets": ", ".join(machine.flags) or "not known",
        "system": machine.system,
        "Python": machine.python,
        **facts.versions,
    }
    files = [[model.name, code(model.sha256)] for model in facts.models]
    return html("report/origin.html.j2", {"terms": _terms(rows), "files": files})


def _terms(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Plain JSON in words; what is long is counted, as the JSON in the page holds it."""
    return [(spelled(key), _words(each)) for key, each in found.items() if each is not None]


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
