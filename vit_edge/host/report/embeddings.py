"""The verdict on embeddings: of a bundle's INT8 embedder, or of a model that gives nothing else."""

from markupsafe import Markup

from vit_edge.embedding_report import CriterionFigures
from vit_edge.host.report.facts import Facts
from vit_edge.host.templates import html


def embeddings(facts: Facts) -> Markup:
    """Every criterion of every output; nothing of classifiers without an INT8 embedder beside them."""
    embedder = None if facts.recipe is None else facts.recipe.embedder
    report = facts.gate.evidence.embeddings or (None if embedder is None else embedder.report)
    if report is None:
        return Markup()
    values = {
        "report": report,
        "left_out": "" if embedder is None else embedder.left_out,
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
