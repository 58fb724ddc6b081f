"""The INT8 form of an embedder: a search of its own, which aims at the embeddings that are used.

Ranges and rounded weights of all blocks but the last are those of the classifier. The last one is another:
the classifier may compute it for the class token alone, whose values are no measure of those of the patches,
so its layers are calibrated again, on every token. Which form each layer takes is chosen anew for all blocks:
what the classifier can do without, since its head reads one token, may be what the patches need. It takes no
more time for that than a few percent of what the classifier's forms would take.
"""

import dataclasses
from collections.abc import Sequence

from vit_edge.errors import UsageError
from vit_edge.host.embedder.graph import FeatureGraph
from vit_edge.host.quantize.choose import cheapest
from vit_edge.host.quantize.fine import with_fine
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.passes import Reader, observed
from vit_edge.host.quantize.plan_set import PlanSet, reaches_of
from vit_edge.host.quantize.plans import LayerPlans, plan_layers
from vit_edge.host.quantize.probe import Probe
from vit_edge.host.quantize.reduced_range import reduced_plans
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Form, Quantization
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.progress import Progress
from vit_edge.spec import Arithmetic, PreprocessSpec

MOST_TIME = 1.03  # of its layers in the forms that they have in the classifier


def embedder_search(
    features: FeatureGraph,
    search: Search,
    arithmetic: Arithmetic,
    preprocess: PreprocessSpec,
    aims: Sequence[str] = (),
) -> Search:
    """The search for the forms of an embedder's layers; a goal is one of each output that it aims at.

    Args:
        features: of the model that `search` has folded.
        search: what is known about the classifier.
        arithmetic: for which the embedder is made, one of the search's.
        preprocess: from image to model input.
        aims: names of the outputs that are used; empty: all of them.

    Raises:
        UsageError: the model has no such output, or the cache folder cannot be written.
        ImageError: a calibration image cannot be read.
    """
    probe = feature_probe(features, search, aims)
    calibration = dataclasses.replace(
        search.calibration, lowering=probe.settings, reference=tuple(probe.reference)
    )
    folded = dataclasses.replace(search.folded, canonical=probe.canonical, calibration=calibration)
    known, again = search.plan_set, f"{features.last_block}." if features.pruned else None
    exact = _blocks_of(known.exact, again)
    plans = {arithmetic: _blocks_of(known.by_arithmetic[arithmetic], again)}
    graph, seen = features.canonical.model.graph, dict(search.calibration.seen)
    if features.pruned:
        block = _LastBlock(features, search, preprocess)
        whole = block.plans()
        exact = _joined(exact, whole)
        reduced = block.reduced(whole) if arithmetic is Arithmetic.SATURATING else whole
        plans[arithmetic] = _joined(plans[arithmetic], reduced)
        seen |= block.seen
    plans[arithmetic] = with_fine(plans[arithmetic], exact, graph, seen, arithmetic)
    exact = with_fine(exact, exact, graph, seen, Arithmetic.EXACT)
    told = None if search.progress is None else _of_embedder(search.progress)
    return Search(folded, PlanSet(exact, plans, None), search.settings, told, each=True)


def searched(own: Search, chosen: Quantization, most: float = MOST_TIME) -> Quantization:
    """The forms with which each output that is used comes as close to the classifier's goal as time allows.

    Args:
        own: from `embedder_search`.
        chosen: of the classifier, whose goal it is.
        most: time that its layers take, of what they would take with the forms of the classifier.
    """
    if chosen.goal is None:
        return own.plain()
    forms = as_chosen(own, chosen)
    costs = (
        {option.form: option.cost for option in layer.options}[forms[layer.name]] for layer in own.layers
    )
    return own.reach(chosen.goal, most * sum(costs))


def as_chosen(own: Search, chosen: Quantization) -> dict[str, Form]:
    """The forms that the layers of an embedder have in the classifier; the fastest where they have none."""
    forms = {layer.name: layer.form for layer in chosen.layers}
    return {layer.name: forms.get(layer.name, cheapest(layer).form) for layer in own.layers}


def check_aims(features: FeatureGraph, aims: Sequence[str]) -> None:
    """Refuse outputs that the model does not have.

    Raises:
        UsageError: names one of them.
    """
    missing = [name for name in aims if name not in features.outputs]
    if missing:
        raise UsageError(
            f"{features.canonical.name} gives {', '.join(features.outputs)}, but no {missing[0]}: leave that "
            "--embedder-for out"
        )


def feature_probe(features: FeatureGraph, search: Search, aims: Sequence[str] = ()) -> Probe:
    """What plans do to the embeddings (or some) of the images that the search looks at.

    Raises:
        UsageError: the model has no such output.
    """
    check_aims(features, aims)
    model = features.canonical.model.clone()
    named = dict(zip(features.outputs, model.graph.outputs, strict=False))  # and behind them the logits
    used = {name: value for name, value in named.items() if name in (aims or features.whole)}
    model.graph.outputs[:] = list(used.values())
    settings = dataclasses.replace(search.lowering, outputs=tuple(used))
    canonical = dataclasses.replace(features.canonical, model=model)
    return Probe(canonical, settings, search.calibration.probed)


class _LastBlock:
    """The block that the classifier computes for few tokens only."""

    def __init__(self, features: FeatureGraph, search: Search, preprocess: PreprocessSpec) -> None:
        self.features, self.search, self.preprocess = features, search, preprocess
        self.graph = features.canonical.model.graph
        mine = f"{features.last_block}."
        self.linears, self.attentions = (
            {name: node for node in composites(self.graph, kind) if (name := str(node.name)).startswith(mine)}
            for kind in (LINEAR, ATTENTION)
        )
        operands = [f"{name}.{letter}" for name in self.attentions for letter in "qkvp"]
        observer = Observer(features.canonical, search.lowering, [*self.linears, *operands])
        images, settings, tell = search.calibration.images, search.settings, search.step
        read, step = Reader(preprocess, (), settings.limits), tell("calibrate the embedder")
        self.seen = observed(observer, images, read, settings.cache, step, settings.spread)

    def plans(self) -> LayerPlans:
        """Every form of every layer in eight bits."""
        tell = self.search.step("round its weights")
        return plan_layers(self.graph, self.linears, self.attentions, self.seen, None, tell)

    def reduced(self, plans: LayerPlans) -> LayerPlans:
        """The same for saturating arithmetic."""
        features, search = self.features, self.search
        reaches = reaches_of(features.canonical, search.calibration, plans, search.progress)
        return reduced_plans(plans, self.graph, self.seen, reaches, None)


def _blocks_of(plans: LayerPlans, but: str | None) -> LayerPlans:
    """The plans of the blocks alone, without the one whose layers have this prefix, and of no head."""

    def stays(name: str) -> bool:
        return name.startswith("blocks.") and (but is None or not name.startswith(but))

    return dataclasses.replace(
        plans,
        linears={name: forms for name, forms in plans.linears.items() if stays(name)},
        attentions={name: forms for name, forms in plans.attentions.items() if stays(name)},
        methods={name: method for name, method in plans.methods.items() if stays(name)},
    )


def _joined(plans: LayerPlans, more: LayerPlans) -> LayerPlans:
    """Those of other layers as well."""
    return dataclasses.replace(
        plans,
        linears={**plans.linears, **more.linears},
        attentions={**plans.attentions, **more.attentions},
        methods={**plans.methods, **more.methods},
    )


def _of_embedder(progress: Progress) -> Progress:
    """Tells the same of the embedder."""
    return lambda what, done, count: progress(f"{what} of the embedder", done, count)
