"""Sequential bias correction: take out of each layer's output the mean error that quantization leaves there.

Source: Nagel et al. 2019, section 4.2, with measured means. Layer by layer, each with the layers before it
already corrected, so that what remains is the error of this layer alone. All images go through one layer
before any goes through the next, so it takes one pass in all.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from vit_edge.arrays import Pixels
from vit_edge.host.lower.model import LowerSettings, lower_nodes, lower_taps
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.walk import Values, in_stages, needed_for
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import Step

Means = dict[str, npt.NDArray[np.float64]]


def correct_biases(
    canonical: Canonical,
    settings: LowerSettings,
    plan: QuantPlan,
    images: Sequence[Pixels],
    progress: Step,
) -> QuantPlan:
    """The plan with corrected biases; the plan itself where no linear layer is quantized.

    Args:
        canonical: the folded float model.
        settings: fixed batch 1, `pixels` input.
        plan: what is quantized.
        images: uint8 (H, W, 3) each; the means are taken over them.
        progress: called after each layer with (done, count).
    """
    if not plan.linears:  # no bias is off
        return plan
    wanted = _means(canonical, settings, FLOAT, list(plan.linears), images)
    lowered = lower_nodes(canonical, settings, plan)
    stops = {lowered.taps[f"{name}.out"]: name for name in plan.linears}
    known: list[Values] = [{lowered.given: torch.tensor(pixels[None])} for pixels in images]
    linears = dict(plan.linears)
    for done, stop in enumerate(in_stages(needed_for(stops, lowered.nodes), stops, known), 1):
        name = stops[stop]
        layer = linears[name]
        found = np.mean([values[stop].mean(dim=0, dtype=torch.float64).numpy() for values in known], axis=0)
        shift = (wanted[name] - found).astype(np.float32)
        for values in known:
            values[stop] = values[stop] + torch.from_numpy(shift)
        linears[name] = dataclasses.replace(layer, bias=shift if layer.bias is None else layer.bias + shift)
        progress(done, len(stops))
    return dataclasses.replace(plan, linears=linears)


def _means(
    canonical: Canonical,
    settings: LowerSettings,
    plan: QuantPlan,
    names: Sequence[str],
    images: Sequence[Pixels],
) -> Means:
    """The mean output (out,) of each layer over all rows of all images."""
    model, outputs = lower_taps(canonical, settings, plan, [f"{name}.out" for name in names])
    session = load(model.SerializeToString())
    total: Means = {}
    for pixels in images:
        results = session.run(outputs, {settings.form.input.value: pixels[None]})
        for name, values in zip(names, results, strict=True):
            mean = values.mean(axis=0, dtype=np.float64)
            total[name] = total[name] + mean if name in total else mean
    return {name: values / len(images) for name, values in total.items()}
