"""What a plan does to the outputs of a few images."""

import functools
import math
import threading
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime

from vit_edge.arrays import Float32, Pixels
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.yardstick import yardsticks
from vit_edge.host.rewrite.canonical import Canonical


class Probe:
    """Compares plans with the float model.

    Args:
        canonical: the folded model.
        settings: batch 1, `pixels`, and the names of the outputs that are compared.
        images: uint8 (H, W, 3) each.
        reference: what the float model gives for them, see `outputs`; None: what `canonical` gives in float.
        each: a goal is for each output, not for the mean over them.
    """

    def __init__(
        self,
        canonical: Canonical,
        settings: LowerSettings,
        images: Sequence[Pixels],
        reference: Sequence[Float32] | None = None,
        *,
        each: bool = False,
    ) -> None:
        self.canonical, self.settings, self.images, self.each = canonical, settings, images, each
        self._reference, self._opening = reference, threading.Lock()

    @functools.cached_property
    def reference(self) -> Sequence[Float32]:
        """What plans are compared with."""
        return self.outputs(FLOAT) if self._reference is None else self._reference

    @functools.cached_property
    def weights(self) -> Sequence[Float32]:
        """What the errors of each output are multiplied by, see `yardsticks`."""
        return yardsticks(self.settings.outputs, self.reference)

    def noise(self, plan: QuantPlan, threads: int = 0) -> float:
        """Noise power over signal power, the mean over the outputs; of boxes see `yardsticks`.

        Args:
            plan: what to compare with the float model.
            threads: for the model; 0: one for each core.
        """
        return sum(self._noises_of(self._opened(plan, threads)))

    def noise_of(self, model: onnx.ModelProto) -> float:
        """The same of any model that takes what the settings say."""
        return sum(self._noises_of(load(model.SerializeToString())))

    def reached(self, plan: QuantPlan) -> float:
        """What a goal is compared with: the noise, or where it is for each output, that of the worst."""
        found = self._noises_of(self._opened(plan))
        return max(found) * len(found) if self.each else sum(found)

    def _noises_of(self, session: onnxruntime.InferenceSession) -> list[float]:
        """What each output adds to the mean."""
        each = zip(self._run(session), self.reference, self.weights, strict=True)
        return [_power((found - exact) * weights) for found, exact, weights in each]

    def outputs(self, plan: QuantPlan) -> list[Float32]:
        """Each output for all images, float32 (N, ...)."""
        return self._run(self._opened(plan))

    def _opened(self, plan: QuantPlan, threads: int = 0) -> onnxruntime.InferenceSession:
        """A session of its own; nothing is left of the model beside it, which is as large.

        One after the other: to open a model takes several times the memory that it needs afterwards.
        """
        with self._opening:
            model = lower(self.canonical, self.settings, plan, check=False).SerializeToString()
            return load(model, threads=threads)

    def _run(self, session: onnxruntime.InferenceSession) -> list[Float32]:
        """Each output for all images, float32 (N, ...)."""
        name = self.settings.form.input.value
        rows = [session.run(None, {name: pixels[None]}) for pixels in self.images]
        return [np.concatenate(output) for output in zip(*rows, strict=True)]


def decibels(noise: float) -> float:
    """Signal to noise ratio in dB of a noise power relative to the signal."""
    return -10.0 * math.log10(max(noise, 1e-12))


def _power(values: Float32) -> float:
    return float(np.square(values, dtype=np.float64).sum())
