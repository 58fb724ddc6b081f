"""What a plan does to the logits of a few images, and what single layers do to them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from vit_edge.host.plan import FLOAT, AttentionPlan, LinearPlan, QuantPlan
from vit_edge.host.quantize.observe import Pixels, logits


class Probe:
    """Compares plans with the float model.

    Args:
        lowered: from a plan to the bytes of a model that takes `pixels` with batch 1.
        images: uint8 (H, W, 3) each.
    """

    def __init__(self, lowered: Callable[[QuantPlan], bytes], images: Sequence[Pixels]) -> None:
        self.lowered, self.images = lowered, images
        self.reference = logits(lowered(FLOAT), images)
        self.signal = float(np.square(self.reference, dtype=np.float64).sum())

    def damage(self, plan: QuantPlan) -> float:
        """Noise power over signal power of the logits."""
        error = logits(self.lowered(plan), self.images) - self.reference
        return float(np.square(error, dtype=np.float64).sum()) / self.signal

    def linear(self, name: str, plan: LinearPlan) -> float:
        """Damage with one linear layer alone quantized."""
        return self.damage(QuantPlan({name: plan}))

    def attention(self, name: str, plan: AttentionPlan) -> float:
        """Damage with one attention alone quantized."""
        return self.damage(QuantPlan(attentions={name: plan}))


def decibels(damage: float) -> float:
    """Signal to noise ratio in dB of a noise power relative to the signal."""
    return -10.0 * math.log10(max(damage, 1e-12))
