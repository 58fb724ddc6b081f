"""Sequential bias correction: take out of each layer's output the mean error that quantization leaves there.

Source: Nagel et al. 2019, section 4.2, with measured means. Block by block, each with the blocks before it
already corrected, so that what remains is the error of this block alone.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vit_edge.arrays import Pixels
from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.quantize.observe import load
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
        progress: called after each block with (done, count).
    """
    groups = _blocks(plan)
    if not groups:  # every linear layer is float, and no bias is off
        return plan
    wanted = _means(canonical, settings, FLOAT, list(plan.linears), images)
    for done, names in enumerate(groups, 1):
        found = _means(canonical, settings, plan, names, images)
        linears = dict(plan.linears)
        for name in names:
            layer = linears[name]
            bias = np.zeros(len(layer.weight_scale)) if layer.bias is None else layer.bias
            moved = (bias + wanted[name] - found[name]).astype(np.float32)
            linears[name] = dataclasses.replace(layer, bias=moved)
        plan = dataclasses.replace(plan, linears=linears)
        progress(done, len(groups))
    return plan


def _blocks(plan: QuantPlan) -> list[list[str]]:
    """The quantized layers, those of one block together, in the order of the graph."""
    groups: dict[str, list[str]] = {}
    for name in plan.linears:
        groups.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return list(groups.values())


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
