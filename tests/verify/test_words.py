"""Figures in words."""

import math

import pytest

from vit_edge.verify.words import decibel, percent, sqnr_db


@pytest.mark.parametrize(
    ("signal", "noise", "expected"), [(100.0, 1.0, 20.0), (1.0, 100.0, -20.0), (1.0, 0.0, math.inf)]
)
def test_a_ratio_of_powers_is_in_decibels(signal: float, noise: float, expected: float) -> None:
    assert sqnr_db(signal, noise) == pytest.approx(expected)


def test_no_signal_is_no_error() -> None:
    assert sqnr_db(0.0, 1.0) == pytest.approx(-3000)


@pytest.mark.parametrize(
    ("value", "expected"), [(12.34, "12.3 dB"), (None, "identical"), (math.inf, "identical"), (0.0, "0.0 dB")]
)
def test_a_ratio_in_words(value: float | None, expected: str) -> None:
    assert decibel(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(99.994, "99.99 %"), (0.0, "0.00 %"), (None, "-")])
def test_a_share_in_words(value: float | None, expected: str) -> None:
    assert percent(value) == expected


def test_a_page_has_a_dash_of_its_own() -> None:
    assert percent(None, "\N{EN DASH}") == "\N{EN DASH}"
