"""What two models, one of a hard task and one of an easy one, show of the same quantizers."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.peers.charts import USELESS
from tools.peers.table import engine_of, ordered

NEAR = 99.0  # percent of agreement

Row = Mapping[str, Any]
Pair = tuple[Row, Row]  # of the hard model and of the easy one


def contrast(hard: Mapping[str, Any], easy: Mapping[str, Any]) -> str:
    """One paragraph of figures about what both models have figures of, on the same kind of CPU."""
    pairs = shared(hard["rows"], easy["rows"])
    ends = (101.0, NEAR, USELESS, 0.0)
    said = [f"Of {len(pairs)} files in their engines, by the share of images whose class they keep:", ""]
    for high, low in itertools.pairwise(ends):
        group = [pair for pair in pairs if low <= pair[0]["agreement"] < high]
        if group:
            said.append(f"* {_group(group)}")
    return "\n".join(said)


def shared(hard: Sequence[Row], easy: Sequence[Row]) -> list[Pair]:
    """Rows with figures for both, without the float model."""
    others = {_key(row): row for row in ordered(easy)[1:]}
    return [(row, others[_key(row)]) for row in ordered(hard)[1:] if _key(row) in others]


def _group(pairs: Sequence[Pair]) -> str:
    """What one group keeps of either model."""
    hard, easy = ([pair[which]["agreement"] for pair in pairs] for which in (0, 1))
    return (
        f"{len(pairs)} that keep {_span(hard)} % of the hard model keep {_span(easy)} % of the easy one, "
        f"{sum(each >= NEAR for each in easy)} of them {NEAR:g} % or more; signal to noise of the logits "
        f"{_decibels(pairs, 0)} dB and {_decibels(pairs, 1)} dB"
    )


def _decibels(pairs: Sequence[Pair], which: int) -> str:
    return _span(found for pair in pairs if (found := pair[which]["logit_sqnr_db"]) is not None)


def _key(row: Row) -> tuple[str, str]:
    return str(row["name"]), engine_of(row)


def _span(values: Iterable[float]) -> str:
    found = sorted(values)
    least, most = f"{found[0]:.1f}", f"{found[-1]:.1f}"
    return least if least == most else f"{least} to {most}"
