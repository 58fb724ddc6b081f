"""Figures in words, the same in tables, cards and reports."""

import math

DASH = "-"  # stands where there is no figure


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise ratio in dB of two powers; infinite where nothing differs."""
    return math.inf if noise == 0.0 else 10.0 * math.log10(max(signal, 1e-300) / noise)


def percent(value: float | None, dash: str = DASH) -> str:
    """Of something measured in percent; `dash` where there is none."""
    return dash if value is None else f"{value:.2f} %"


def decibel(value: float | None) -> str:
    """A ratio; identical where it is infinite, which JSON says as None."""
    return "identical" if value is None or math.isinf(value) else f"{value:.1f} dB"
