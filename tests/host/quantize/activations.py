"""Activations made from arrays, as if they had been observed."""

import numpy as np

from vit_edge.arrays import Float32
from vit_edge.host.quantize.histogram import Histogram
from vit_edge.host.quantize.tally import Activation


def activation_of(values: Float32) -> Activation:
    """What one pass over these rows (rows, channels) would have collected, all rows sampled."""
    exact = values.astype(np.float64)
    return Activation(
        exact.min(axis=0),
        exact.max(axis=0),
        exact.mean(axis=0),
        (exact.T @ exact / len(exact)).astype(np.float32),
        len(exact),
        values,
        Histogram.of(values),
    )
