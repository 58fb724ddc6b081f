"""The section on latency, memory, size, and where the time goes."""

from markupsafe import Markup

from vit_edge.host.report.charts import latencies
from vit_edge.host.report.facts import Facts, ModelFacts
from vit_edge.host.report.figures import NONE
from vit_edge.host.templates import html

SHOWN_OPERATORS = 10


def speed(facts: Facts) -> Markup:
    """Every model's figures and distribution, and the operators of the reference and the judged one."""
    threads = "onnxruntime's choice of" if facts.threads is None else str(facts.threads)
    plural = "thread" if facts.threads == 1 else "threads"
    heads = [
        "model",
        "median",
        "fastest",
        "95th percentile",
        "against float (95 % interval)",
        "peak memory",
        "file",
        "runs on",
    ]
    longest = max((each.ms for model in _profiled(facts) for each in model.operators), default=0.0)
    values = {
        "machine": facts.machine,
        "threads": f"{threads} {plural}",
        "heads": heads,
        "rows": [_row(model) for model in facts.models],
        "latencies": latencies(facts.models),
        "profiles": [(_caption(model), _operators(model, longest)) for model in _profiled(facts)],
    }
    return html("report/speed.html.j2", values)


def _profiled(facts: Facts) -> list[ModelFacts]:
    return [model for model in (facts.reference_model, facts.judged_model) if model.operators]


def _row(model: ModelFacts) -> list[str]:
    ratio = "1" if model.gate is None else str(model.ratio)
    return [
        model.name,
        f"{model.latency.median_ms:.2f} ms",
        f"{model.latency.min_ms:.2f} ms",
        f"{model.latency.p95_ms:.2f} ms",
        ratio,
        NONE if model.peak_rss_mb is None else f"{model.peak_rss_mb:.0f} MB",
        f"{model.size_mb:.2f} MB",
        ", ".join(name.removesuffix("ExecutionProvider") for name in model.providers),
    ]


def _caption(model: ModelFacts) -> str:
    whole = sum(each.ms for each in model.operators)
    return f"{model.name}: {whole:.2f} ms in operators per run, onnxruntime's profiler on"


def _operators(model: ModelFacts, longest: float) -> list[list[str]]:
    shown, rest = model.operators[:SHOWN_OPERATORS], model.operators[SHOWN_OPERATORS:]
    tone = "var(--float)" if model.gate is None else "var(--int8)"
    rows = [
        [
            each.operator,
            str(each.kernels),
            _bar(each.ms / longest, tone, f"{each.ms:.2f} ms"),
            f"{100 * each.share:.0f} %",
        ]
        for each in shown
    ]
    if rest:
        total = sum(each.ms for each in rest)
        kernels = str(sum(each.kernels for each in rest))
        share = f"{100 * sum(each.share for each in rest):.0f} %"
        rows.append([f"{len(rest)} others", kernels, _bar(total / longest, tone, f"{total:.2f} ms"), share])
    return rows


def _bar(share: float, tone: str, text: str) -> Markup:
    return html("report/bar.html.j2", {"tone": tone, "width": 100 * min(share, 1.0), "text": text})
