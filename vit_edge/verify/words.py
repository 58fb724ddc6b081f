"""Figures in words, the same in tables, cards and reports."""

import math

from vit_edge.gate_report import Evidence, MapMeasure, Measure
from vit_edge.truth_report import TruthScore

DASH = "-"  # stands where there is no figure
LARGE_ECE = 25.0  # percent; of trained classifiers on images of their kind the error is below


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise ratio in dB of two powers; infinite where nothing differs."""
    return math.inf if noise == 0.0 else 10.0 * math.log10(max(signal, 1e-300) / noise)


def percent(value: float | None, dash: str = DASH) -> str:
    """Of something measured in percent; `dash` where there is none."""
    return dash if value is None else f"{value:.2f} %"


def interval(ends: tuple[float, float], unit: str = "") -> str:
    """`0.12 to 0.34`, and the unit behind it."""
    return f"{ends[0]:.2f} to {ends[1]:.2f}{unit}"


def error_of_confidence(found: float | None) -> str:
    """What a large expected calibration error means; empty where it is small or unknown.

    Args:
        found: the expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599) in percent.
    """
    if found is None or found < LARGE_ECE:
        return ""
    return (
        f"; the float model's confidence is {found:.0f} points away from how often it is right: see whether "
        "labels and preprocessing are the model's own"
    )


def decibel(value: float | None) -> str:
    """A ratio; identical where it is infinite, which JSON says as None."""
    return "identical" if value is None or math.isinf(value) else f"{value:.1f} dB"


def map_measure(found: MapMeasure) -> str:
    """One measure of a model of maps."""
    unit = " % of the range" if found.measure is Measure.DIFFERENCE else ""
    digits = ".3g" if found.measure is Measure.DIFFERENCE else ".4f"
    side = "above" if found.measure is Measure.DIFFERENCE else "below"
    low, high, worst = (format(each, digits) for each in (*found.mean_ci95, found.worst))
    return (
        f"{found.mean:{digits}}{unit} on average (95 % interval {low} to {high}), {worst} at worst; "
        f"{side} {found.limit:g} on {found.beyond:.2f} % of images ({found.beyond_ci95[0]:.2f} to "
        f"{found.beyond_ci95[1]:.2f}): {found.verdict.value}"
    )


def truth_score(found: TruthScore) -> str:
    """Both models against truth by one measure."""
    return (
        f"{percent(found.score_float)} float ({interval(found.score_float_ci95)}), "
        f"{percent(found.score_quant)} INT8 "
        f"({interval(found.score_quant_ci95)}); drop {found.drop:.2f} points, 95 % bootstrap interval "
        f"{interval(found.drop_bootstrap95)}, with what was not seen {interval(found.drop_ci95)}: "
        f"{found.verdict.value}"
    )


def map_rows(evidence: Evidence) -> list[tuple[str, str]]:
    """Of a model of maps or boxes: against truth, where there is any, and against the float model."""
    return [
        *((each.measure.words, truth_score(each)) for each in evidence.truth),
        *((f"{each.measure.value} of {each.output}", map_measure(each)) for each in evidence.maps),
    ]
