"""The INT8 form of an embedder, from what quantizing the classifier has found out.

All blocks but the last are quantized exactly as in the classifier. The last one is another: the classifier
may compute it for the class token alone, whose values are no measure of those of the patches. Its layers are
calibrated again, on every token, and get the fastest forms with which they add no more noise to the
embeddings than the blocks before them do on average.
"""

import dataclasses
from collections.abc import Callable

from vit_edge.host.embedder.graph import FeatureGraph
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize.cache import Reader, observed
from vit_edge.host.quantize.choose import Option, allowed, choose_forms
from vit_edge.host.quantize.measured import choices
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.plan_set import reaches_of
from vit_edge.host.quantize.plans import GELU, LayerPlans, plan_layers
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.host.quantize.reduced_range import reduced_plans
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Form, Goal, LayerDecision, Quantization
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.progress import silent
from vit_edge.spec import Arithmetic, PreprocessSpec

STATIC_ONLY = Goal(target_db=0.0, per_token=False)  # of a classifier for which nothing was chosen


def quantize_embedder(
    features: FeatureGraph, search: Search, quantization: Quantization, preprocess: PreprocessSpec
) -> Quantization:
    """The quantization of an embedder.

    Args:
        features: of the model that `search` has folded.
        search: what is known about the classifier.
        quantization: of the classifier.
        preprocess: from image to model input.

    Raises:
        ImageError: a calibration image cannot be read.
        UsageError: the cache folder cannot be written.
    """
    again = f"{features.last_block}." if features.pruned else None

    def stays(name: str) -> bool:
        return name.startswith("blocks.") and (again is None or not name.startswith(again))

    plan = _restricted(quantization.plan, stays)
    layers = tuple(layer for layer in quantization.layers if stays(layer.name) or layer.name == GELU)
    if again is not None:
        block = _LastBlock(features, search, preprocess)
        plan, decisions = block.added_to(plan, quantization)
        layers += decisions
    return quantization.with_plan(plan, layers)


def feature_probe(features: FeatureGraph, search: Search) -> Probe:
    """What plans do to the embeddings of the images that the search looks at."""
    settings = dataclasses.replace(search.lowering, outputs=features.whole)
    return Probe(features.canonical, settings, search.calibration.probed)


class _LastBlock:
    """The block that the classifier computes for few tokens only."""

    def __init__(self, features: FeatureGraph, search: Search, preprocess: PreprocessSpec) -> None:
        self.features, self.search = features, search
        self.graph = features.canonical.model.graph
        mine = f"{features.last_block}."
        self.linears, self.attentions = (
            {name: node for node in composites(self.graph, kind) if (name := str(node.name)).startswith(mine)}
            for kind in (LINEAR, ATTENTION)
        )
        self.preprocess = preprocess

    def added_to(
        self, plan: QuantPlan, quantization: Quantization
    ) -> tuple[QuantPlan, tuple[LayerDecision, ...]]:
        """The plan of the blocks before with this one's, and what was decided about it."""
        plans = self.plans(quantization.arithmetic)
        goal = quantization.goal or STATIC_ONLY
        probe = feature_probe(self.features, self.search)
        before = int(self.features.last_block.removeprefix("blocks."))
        budget = probe.noise(plan) / before if before else goal.noise
        layers = choices(self.features.canonical, plans, probe, self.search.costs, silent)
        taken = choose_forms(allowed(layers, goal), budget)
        own = plans.chosen({name: option.form for name, option in taken.items()})
        decisions = tuple(_decision(name, option, plans) for name, option in taken.items())
        whole = dataclasses.replace(
            plan, linears={**plan.linears, **own.linears}, attentions={**plan.attentions, **own.attentions}
        )
        return whole, decisions

    def plans(self, arithmetic: Arithmetic) -> LayerPlans:
        """Every form of every layer, calibrated on all tokens."""
        operands = [f"{name}.{letter}" for name in self.attentions for letter in "qkvp"]
        observer = Observer(self.features.canonical, self.search.lowering, [*self.linears, *operands])
        images, cache, tell = self.search.calibration.images, self.search.settings.cache, self.search.step
        seen = observed(observer, images, Reader(self.preprocess), cache, tell("calibrate the embedder"))
        plans = plan_layers(self.graph, self.linears, self.attentions, seen, None, tell("round its weights"))
        if arithmetic is not Arithmetic.SATURATING:
            return plans
        reaches = reaches_of(self.features.canonical, self.search.calibration, plans, self.search.progress)
        return reduced_plans(plans, self.graph, seen, reaches, None)


def _decision(name: str, taken: Option, plans: LayerPlans) -> LayerDecision:
    alone = "no quantization noise"
    if taken.form is not Form.FLOAT:
        alone = f"{decibels(taken.noise):.1f} dB in the embeddings where it alone is quantized"
    return LayerDecision(name, taken.form, None, f"{alone}, {taken.cost:.3f} ms", plans.methods.get(name))


def _restricted(plan: QuantPlan, stays: Callable[[str], bool]) -> QuantPlan:
    """The plan of some layers only."""
    return dataclasses.replace(
        plan,
        linears={name: layer for name, layer in plan.linears.items() if stays(name)},
        attentions={name: core for name, core in plan.attentions.items() if stays(name)},
    )
