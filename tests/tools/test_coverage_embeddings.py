"""The intervals for embeddings hold the truth as often as the documentation says, on a small scale."""

import pytest

from tools import coverage_embeddings


def test_every_interval_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage_embeddings, "SIZES", (120,))
    monkeypatch.setattr(coverage_embeddings, "NOISES", (0.3,))
    rows = coverage_embeddings.coverage(30)
    assert len(rows) == 5
    assert all(row["coverage"] >= 85 for row in rows)
    assert all(row["mean_width"] > 0 for row in rows)
