"""The section on known pitfalls of the float model, which are no matter of quantization."""

from vit_edge.host.report.facts import Facts
from vit_edge.host.report.html import Html, el, table


def findings(facts: Facts) -> Html:
    """A row per finding; nothing where there is none."""
    if not facts.findings:
        return Html("")
    heads = ["severity", "code", "what was found", "what to do"]
    rows = [[each.severity.value, each.code.value, each.what, each.mend] for each in facts.findings]
    return el(
        "section",
        el("h2", "About the model itself"),
        el("p", "Found in passing; vit-edge doctor looks for more. Quantization has no part in it."),
        table("Findings about the model itself", heads, rows),
    )
