"""Exact binomial statistics from the standard library alone: the device install has no scipy."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LARGEST_SAMPLE = 10**6  # beyond this many images a plan is no plan


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularized incomplete beta function I_x(a, b).

    Summed as the continued fraction NIST DLMF 8.17.22, on the side of the mean where it converges fast.

    Args:
        x: 0 to 1.
        a: above 0.
        b: above 0.

    Returns:
        0 to 1.
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / a * _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))), by the modified Lentz recurrence."""
    tiny = 1e-300
    numerator, denominator, value = 1.0, 0.0, 1.0
    for step in range(1, 100_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1.0 / (1.0 + term * denominator or tiny)
        numerator = 1.0 + term / numerator or tiny
        change = numerator * denominator
        value *= change
        if abs(change - 1.0) < 1e-15:
            break
    return 1.0 / value


def beta_cdf_of(
    x: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`beta_cdf` of arrays of one shape."""
    flipped = x > (a + 1.0) / (a + b + 2.0)
    near, first, second = np.where(flipped, 1.0 - x, x), np.where(flipped, b, a), np.where(flipped, a, b)
    safe = np.clip(near, 1e-300, 1.0)
    log_front = log_gamma(first + second) - log_gamma(first) - log_gamma(second)
    log_front += first * np.log(safe) + second * np.log1p(-safe * (1.0 - 1e-16))
    part = np.exp(log_front) / first * _beta_fractions(safe, first, second)
    part = np.where(near <= 0.0, 0.0, np.minimum(part, 1.0))
    return np.where(flipped, 1.0 - part, part)


def _beta_fractions(
    x: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`_beta_fraction` of arrays."""
    tiny = 1e-300
    numerator, denominator, value = np.ones_like(x), np.zeros_like(x), np.ones_like(x)
    for step in range(1, 100_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 + term * denominator
        denominator = 1.0 / np.where(lower == 0.0, tiny, lower)
        upper = 1.0 + term / numerator
        numerator = np.where(upper == 0.0, tiny, upper)
        change = numerator * denominator
        value *= change
        if np.all(np.abs(change - 1.0) < 1e-12):
            break
    return 1.0 / value


_SHIFT = 10  # below which Stirling's series is not exact enough
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)  # NIST DLMF 5.11.1


def log_gamma(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the gamma function of positive numbers, by Stirling's series (NIST DLMF 5.11.1)."""
    small = x < _SHIFT
    # Gamma(x) = Gamma(x + k) / (x (x + 1) ... (x + k - 1))
    product = np.prod([np.where(small, x + k, 1.0) for k in range(_SHIFT)], axis=0)
    large = np.where(small, x + _SHIFT, x)
    series = np.zeros_like(large)
    for term in reversed(_STIRLING):
        series = series / large**2 + term
    logs: NDArray[np.float64] = (large - 0.5) * np.log(large) - large + series / large - np.log(product)
    return logs + 0.5 * math.log(2.0 * math.pi)


def clopper_pearson(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Exact confidence interval of a binomial proportion, after Clopper and Pearson 1934 (Biometrika 26).

    Args:
        successes: 0 to trials; need not be whole, so that a plan can scale observed counts.
        trials: above 0.
        confidence: two-sided, such as 0.95.

    Returns:
        (lower, upper), each 0 to 1.
    """
    tail = (1.0 - confidence) / 2.0
    failures = trials - successes
    lower = 0.0 if successes == 0 else _beta_quantile(tail, successes, failures + 1.0)
    upper = 1.0 if failures == 0 else 1.0 - _beta_quantile(tail, failures, successes + 1.0)
    return lower, upper


def _beta_quantile(probability: float, a: float, b: float) -> float:
    return bisect(lambda x: beta_cdf(x, a, b) - probability, 0.0, 1.0)


def bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """The point between low and high where `function` stops being negative or zero, to the last bit."""
    while low < (middle := (low + high) / 2.0) < high:
        if function(middle) <= 0.0:
            low = middle
        else:
            high = middle
    return middle


def smallest_sample(decides: Callable[[int], bool], start: int) -> int | None:
    """The smallest sample size above `start` at which `decides` turns true, given that it then stays true.

    Args:
        decides: whether a sample of that size would settle the question.
        start: a size at which it does not.

    Returns:
        The size, or None where not even a million would do.
    """
    low, high = start, 2 * start
    while not decides(high):
        low, high = high, 2 * high
        if high > LARGEST_SAMPLE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
