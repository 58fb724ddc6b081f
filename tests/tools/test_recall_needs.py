"""The tool that says what a recall takes."""

import numpy as np
import pytest

from tools.recall_needs import SIZES, closeness, scaled, table
from vit_edge.arrays import Float32


def vectors(count: int = 200) -> Float32:
    return np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32)


def test_the_same_vectors_find_the_same_neighbours() -> None:
    found = closeness(vectors(), vectors())
    assert found["recall_at_10"] == 100.0
    assert found["sqnr_db"] == 120.0  # what stands for no noise


def test_vectors_of_other_images_find_others() -> None:
    found = closeness(vectors(), vectors()[::-1].copy())
    assert found["sqnr_db"] == pytest.approx(-3.0, abs=0.3)  # the noise is twice the signal
    assert found["recall_at_10"] < 25.0  # ten of a hundred by chance


def test_half_of_an_error_is_six_decibels_less_and_finds_more() -> None:
    error = np.random.default_rng(1).normal(0, 0.3, (200, 16)).astype(np.float32)
    rows = list(scaled(vectors(), error))
    assert [row["size"] for row in rows] == list(SIZES)
    by_size = {row["size"]: row for row in rows}
    assert by_size[0.5]["sqnr_db"] - by_size[1.0]["sqnr_db"] == pytest.approx(6.02, abs=0.02)
    recalls = [row["recall_at_10"] for row in rows]
    assert recalls == sorted(recalls)


def test_the_table_has_a_line_for_each_form_and_size() -> None:
    row = closeness(vectors(), vectors())
    forms = [{"what": "weights alone", **row}]
    told = table({"forms": forms, "scaled": [{"size": 0.5, **row}]}).splitlines()
    assert told[2] == "| weights alone | 120.0 dB | 100.0 % |"
    assert told[3] == "| error times 0.5 | 120.0 dB | 100.0 % |"
