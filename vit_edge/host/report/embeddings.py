"""The verdict on a bundle's INT8 embedder."""

from vit_edge.embedding_report import CriterionFigures
from vit_edge.host.report.facts import Facts
from vit_edge.host.report.html import Html, el, table

_HEADS = ["output", "criterion", "found", "95 % interval", "accepted", "verdict"]


def embeddings(facts: Facts) -> Html:
    """Every criterion of every output; nothing of a bundle without an INT8 embedder."""
    embedder = None if facts.recipe is None else facts.recipe.embedder
    if embedder is None or embedder.report is None:
        return Html("")
    report = embedder.report
    known = "labelled" if report.labelled else "unlabelled"
    words = f"{report.verdict.value} on {report.n} {known} images, {report.scenes} of them independent."
    left_out = f" The INT8 embedder is left out: {embedder.left_out}." if embedder.left_out else ""
    rows = [_row(each) for each in report.criteria]
    caption = "INT8 embeddings against float"
    return el("section", el("h2", "Embeddings"), el("p", words + left_out), table(caption, _HEADS, rows))


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
