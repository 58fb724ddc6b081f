"""The gamma distribution from the standard library alone: the device install has no scipy."""

import math

from vit_edge.verify.proportion import bisect

_TERMS = 10_000
_EXACT = 1e-15


def gamma_cdf(x: float, a: float) -> float:
    """Regularized lower incomplete gamma function P(a, x).

    By its series (NIST DLMF 8.11.4) below the mean, by its continued fraction (8.9.2) above.

    Args:
        x: 0 or more.
        a: above 0.
    """
    if x <= 0.0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        for step in range(1, _TERMS):
            term *= x / (a + step)
            total += term
            if term < _EXACT * total:
                break
        return min(front * total, 1.0)
    b = x + 1.0 - a
    c, d = 1e300, 1.0 / b
    fraction = d
    for step in range(1, _TERMS):
        factor = -step * (step - a)
        b += 2.0
        d = 1.0 / (factor * d + b or 1e-300)
        c = b + factor / c or 1e-300
        fraction *= c * d
        if abs(c * d - 1.0) < _EXACT:
            break
    return max(1.0 - front * fraction, 0.0)


def gamma_quantile(a: float, probability: float) -> float:
    """The value below which a gamma variable of shape a and scale 1 lies with that probability."""
    high = max(a, 1.0)
    while gamma_cdf(high, a) < probability:
        high *= 2.0
    return bisect(lambda x: gamma_cdf(x, a) - probability, 0.0, high)
