"""The verdict on a bundle's INT8 embedder."""

from markupsafe import Markup

from vit_edge.embedding_report import CriterionFigures
from vit_edge.host.report.facts import Facts
from vit_edge.host.templates import html


def embeddings(facts: Facts) -> Markup:
    """Every criterion of every output; nothing of a bundle without an INT8 embedder."""
    embedder = None if facts.recipe is None else facts.recipe.embedder
    if embedder is None or embedder.report is None:
        return Markup()
    report = embedder.report
    values = {
        "report": report,
        "left_out": embedder.left_out,
        "rows": [_row(each) for each in report.criteria],
    }
    return html("report/embeddings.html.j2", values)


def _row(figures: CriterionFigures) -> list[str]:
    criterion = figures.criterion
    return [
        figures.output,
        criterion.words,
        "-" if figures.found is None else criterion.shown(figures.found),
        "-" if figures.ci95 is None else " to ".join(map(criterion.shown, figures.ci95)),
        criterion.shown_limit(figures.limit),
        figures.verdict.value,
    ]
