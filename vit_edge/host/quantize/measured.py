"""What each form of each layer does alone, its noise and its cost; and what has no form in integers."""

import math
from collections.abc import Callable, Mapping

from vit_edge.host.lower.conv import is_plain_conv
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize.choose import LayerOptions, Option
from vit_edge.host.quantize.cost import Costs
from vit_edge.host.quantize.noises import noises
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.probe import Probe
from vit_edge.host.quantize.types import Form, LayerDecision
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import static_shape
from vit_edge.progress import Step

FEW = 1e-3  # of all weights: a layer with fewer may be float, for what it takes then is nothing


def choices(
    canonical: Canonical,
    plans: LayerPlans,
    probe: Probe,
    costs: Costs,
    step: Callable[[str], Step],
) -> list[LayerOptions]:
    """Every form of the planned layers, each with the noise that it does alone, and its cost.

    Args:
        canonical: holds the layers.
        plans: of the layers concerned.
        probe: measures the noise.
        costs: times the layers.
        step: progress of a named step.
    """
    nodes = {str(node.name): node for node in canonical.model.graph}
    sizes = {name: nodes[name].inputs[1] for name in plans.linears}
    weights = {name: math.prod(static_shape(value) or (0,)) for name, value in sizes.items()}
    few = FEW * sum(weights.values())
    found = noises(plans, probe, step("measure layers"))
    made = []
    for name, forms in plans.linears.items():
        alone = {form: found[name, form] for form in forms}
        made.append(_options(name, alone, costs.of_linear(nodes[name]), weights=weights[name] > few))
    tell, count = step("measure convolutions"), len(plans.convs)
    for done, (name, convs) in enumerate(plans.convs.items(), 1):
        alone = {form: probe.noise(QuantPlan(convs={name: conv})) for form, conv in convs.items()}
        made.append(_options(name, alone, costs.of_conv(nodes[name]), weights=True))
        tell(done, count)
    for name, cores in plans.attentions.items():
        alone = {form: found[name, form] for form in cores}
        made.append(_options(name, alone, costs.of_attention(nodes[name]), weights=False))
    return made


def _options(
    name: str, noises: Mapping[Form, float], cost: Mapping[Form, float], *, weights: bool
) -> LayerOptions:
    """Of a layer whose INT8 forms do this noise; float does none."""
    options = [Option(form, noise, cost[form]) for form, noise in {**noises, Form.FLOAT: 0.0}.items()]
    return LayerOptions(name, tuple(options), weights)


def without_forms(canonical: Canonical) -> list[LayerDecision]:
    """What of a dense head, or of a graph that is only partly a ViT, has no form in integers."""
    graph = canonical.model.graph
    nodes = [node for node in graph if is_op(node, "ConvTranspose") or is_op(node, "Conv")]
    reason = "it has no form in integers"
    return [
        LayerDecision(str(node.name), Form.FLOAT, None, reason) for node in nodes if not is_plain_conv(node)
    ]
