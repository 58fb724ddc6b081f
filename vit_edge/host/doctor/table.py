"""The table of positions of a canonical model, judged by itself."""

from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, EMBED, ROTARY, composites
from vit_edge.host.rewrite.values import attention_bias, constant_of
from vit_edge.runtime.doctor.examination import Examination
from vit_edge.verify.positions import GridLook, look_at_grid

CODES = (Code.POSITIONS_SHUFFLED, Code.POSITIONS_OF_OTHER_SIZE)
_MEND = "load the checkpoint again; resize the positions as a picture of the grid, and never cut or pad them"


def look_at_table(canonical: Canonical, examination: Examination) -> None:
    """Whether positions stand in the order of the grid, and of this grid."""
    graph = canonical.model.graph
    embed = next(composites(graph, EMBED))
    table, patches = constant_of(embed.inputs[2]), patches_of(embed)
    if table is None:
        examination.skip(CODES, "the table of positions is no constant")
        return
    look = look_at_grid(table[patches.prefix :], (patches.rows, patches.columns))
    elsewhere = next(composites(graph, ROTARY), None) is not None or any(
        attention_bias(node) is not None for node in composites(graph, ATTENTION)
    )
    if look.p is None:
        where = (
            "positions are in the attention" if elsewhere else "the grid is too small, or all are the same"
        )
        examination.skip(CODES, f"the table of positions does not tell: {where}")
        return
    examination.looked(CODES, _findings(look, (patches.rows, patches.columns)))


def _findings(look: GridLook, grid: tuple[int, int]) -> list[Finding]:
    figures = (
        Figure("mean cosine of neighbours", look.neighbours or 0.0),
        Figure("p of no order", look.p or 0.0),
    )
    if look.columns is not None:
        what = (
            f"positional embeddings are those of rows of {look.columns} patches, and the model has "
            f"{grid[0]} rows of {grid[1]}"
        )
        evidence = (*figures, Figure("columns", float(look.columns)))
        return [Finding(Code.POSITIONS_OF_OTHER_SIZE, Severity.WARNING, what, _MEND, evidence)]
    if look.shuffled:
        what = (
            "positional embeddings of neighbours are no more alike than those of any two patches: they are "
            "shuffled, or were never trained"
        )
        return [Finding(Code.POSITIONS_SHUFFLED, Severity.WARNING, what, _MEND, figures)]
    return []
