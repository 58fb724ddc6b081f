"""What the noise of every layer alone does to the outputs, from few passes through the float model.

A layer's own error is small, so the outputs move by J e: J is the derivative of the outputs by the layer's
output, e the error that one form of the layer makes there on its float input. A product r J with random signs
r takes one backward pass and serves all layers, and the mean of (r J e)^2 is |J e|^2 (Hutchinson 1990, "A
stochastic estimator of the trace of the influence matrix"). So what would take a pass through a model of its
own for each form of each layer takes SIGNS backward passes in all. The error e itself is that of the lowered
layer, run as it will be written.

This is the first order of a Taylor series, which a large error may leave: `noises` measures the noisiest
layers truly, and all of them where the estimate does not hold.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from vit_edge.arrays import Float32, Pixels
from vit_edge.host.lower.attention import added_in, int8_core, join_heads
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import int8_linear
from vit_edge.host.lower.model import Lowered, LowerSettings, lower_nodes
from vit_edge.host.lower.sizes import heads_of
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.types import Form
from vit_edge.host.quantize.walk import Constants, Values, needed_for, step
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import Step

SIGNS = 8  # random directions of the outputs, for each image: a tenth of the noise with 24 images, half a dB

LayerForm = tuple[str, Form]  # (name of the layer, form)
Noises = dict[LayerForm, float]  # noise power over signal power of the outputs


@dataclasses.dataclass
class Estimate:
    """What one form of one layer does."""

    noise: float = 0.0
    """Noise power over signal power of the outputs, to first order."""
    spoilt: float = 0.0
    """Error power over signal power of the row of the layer's own output that suffers most."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Branch:
    """One form of one layer, computed beside the float one."""

    nodes: Sequence[ir.Node]
    exact: ir.Value  # the output of the layer in the float model
    rounded: ir.Value


def estimated(
    canonical: Canonical,
    settings: LowerSettings,
    plans: LayerPlans,
    images: Sequence[Pixels],
    weights: Sequence[Float32],
    progress: Step,
) -> dict[LayerForm, Estimate]:
    """The noise of each planned form of each layer alone, the mean over the outputs.

    Args:
        canonical: the folded model.
        settings: batch 1, `pixels`, and the names of the outputs.
        plans: of the layers concerned.
        images: uint8 (H, W, 3) each.
        weights: what the errors of each output are multiplied by, (N, ...) or (1, ...), see `yardsticks`.
        progress: called after each image with (done, count).

    Raises:
        NoGradientError: an operator behind a layer has no gradient here.
    """
    lowered = lower_nodes(canonical, settings)
    branches = _branches(canonical, plans, lowered)
    exact = list(dict.fromkeys(branch.exact for branch in branches.values()))
    nodes = needed_for([*lowered.outputs, *exact], lowered.nodes)
    generator = torch.Generator().manual_seed(0)
    found, constants = {which: Estimate() for which in branches}, Constants()
    for done, pixels in enumerate(images, 1):
        values = {lowered.given: torch.tensor(pixels[None])}
        _forward(nodes, values, constants, frozenset(exact))
        errors = _errors(branches, values, constants)
        own = [torch.from_numpy(each[(done - 1) % len(each)][None]) for each in weights]
        outputs = [(values[output], weight) for output, weight in zip(lowered.outputs, own, strict=True)]
        reached = [(output, weight) for output, weight in outputs if output.requires_grad]
        for _ in range(SIGNS if reached else 0):
            slopes = _slopes(reached, [values[value] for value in exact], generator)
            _add(found, branches, errors, dict(zip(exact, slopes, strict=True)))
        _mark_spoilt(found, branches, errors, values)
        progress(done, len(images))
    return found


def _slopes(
    outputs: Sequence[tuple[Tensor, Tensor]], places: Sequence[Tensor], generator: torch.Generator
) -> tuple[Tensor | None, ...]:
    """How the outputs, each times its weights and random signs, change with the values at some places."""
    signs = [
        (torch.randint(0, 2, output.shape, generator=generator) * 2.0 - 1.0) * weight
        for output, weight in outputs
    ]
    made = [output for output, _ in outputs]
    slopes: tuple[Tensor | None, ...] = torch.autograd.grad(
        made, places, signs, retain_graph=True, allow_unused=True
    )
    return slopes


def _branches(canonical: Canonical, plans: LayerPlans, lowered: Lowered) -> dict[LayerForm, _Branch]:
    """The integer operators of every form of every layer, which read what the float layer reads."""
    found = {}
    composites = {str(node.name): node for node in canonical.model.graph}
    for name, forms in plans.linears.items():
        for form, linear in forms.items():
            w = GraphWriter()
            made = int8_linear(w, lowered.taps[name], linear, name)
            found[name, form] = _Branch(w.nodes, lowered.taps[f"{name}.out"], made)
    for name, cores in plans.attentions.items():
        node = composites[name]
        q, k, v = (lowered.taps[f"{name}.{letter}"] for letter in "qkv")
        for form, core in cores.items():
            w = GraphWriter()
            mixed, _ = int8_core(w, q, k, v, core, added_in(node), name)
            made = join_heads(w, mixed, heads_of(node), name)
            found[name, form] = _Branch(w.nodes, lowered.taps[f"{name}.out"], made)
    return found


def _forward(
    nodes: Sequence[ir.Node], values: Values, constants: Constants, watched: frozenset[ir.Value]
) -> None:
    """Run the float model, gradients beginning at the first value that is watched."""
    for node in nodes:
        step(node, values, constants)
        for output in node.outputs:
            if output in watched and not values[output].requires_grad:
                values[output] = values[output].detach().requires_grad_()


@torch.no_grad()
def _errors(
    branches: Mapping[LayerForm, _Branch], values: Values, constants: Constants
) -> dict[LayerForm, Tensor]:
    """What each form of each layer makes too much."""
    made = {}
    for which, branch in branches.items():
        own = dict(values)
        for node in branch.nodes:
            step(node, own, constants)
        made[which] = own[branch.rounded] - values[branch.exact]
    return made


def _add(
    found: dict[LayerForm, Estimate],
    branches: Mapping[LayerForm, _Branch],
    errors: Mapping[LayerForm, Tensor],
    slopes: Mapping[ir.Value, Tensor | None],
) -> None:
    """Add the square of what each error moves the outputs by, in one direction; in place."""
    for which, branch in branches.items():
        slope = slopes[branch.exact]
        if slope is not None:
            found[which].noise += float(slope.reshape(-1) @ errors[which].reshape(-1)) ** 2 / SIGNS


def _mark_spoilt(
    found: dict[LayerForm, Estimate],
    branches: Mapping[LayerForm, _Branch],
    errors: Mapping[LayerForm, Tensor],
    values: Values,
) -> None:
    """Take in which row each form spoils most; in place."""
    power = {branch.exact: _row_power(values[branch.exact].detach()) for branch in branches.values()}
    for which, branch in branches.items():
        share = float((_row_power(errors[which]) / power[branch.exact]).max())
        found[which].spoilt = max(found[which].spoilt, share)


def _row_power(values: Tensor) -> Tensor:
    return values.square().sum(dim=-1).clamp_min(1e-12)
