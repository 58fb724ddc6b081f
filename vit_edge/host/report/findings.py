"""The section on known pitfalls of the float model, which are no matter of quantization."""

from markupsafe import Markup

from vit_edge.host.report.facts import Facts
from vit_edge.host.templates import html


def findings(facts: Facts) -> Markup:
    """A row per finding; nothing where there is none."""
    if not facts.findings:
        return Markup()
    rows = [[each.severity.value, each.code.value, each.what, each.mend] for each in facts.findings]
    return html("report/findings.html.j2", {"rows": rows})
