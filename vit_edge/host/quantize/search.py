"""The search for the form of every layer: measured once, then solved for as many goals as are asked for."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from vit_edge.errors import ModelError
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import QuantPlan, WholePlan
from vit_edge.host.quantize.attention_reach import AttentionReach, attention_reaches
from vit_edge.host.quantize.balance import balance
from vit_edge.host.quantize.cache import Reader, calibrate
from vit_edge.host.quantize.choose import Choice, Option, Upgrade, allowed, cheapest, choose, upgrades
from vit_edge.host.quantize.correct import correct_biases
from vit_edge.host.quantize.cost import Costs, gelu_costs
from vit_edge.host.quantize.observe import SESSION_OPTIONS, observer_of
from vit_edge.host.quantize.plans import GELU, LayerPlans, plan_layers
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.host.quantize.reduced_range import reduced_operands, reduced_plans
from vit_edge.host.quantize.types import (
    Form,
    Goal,
    LayerDecision,
    Preset,
    Progress,
    Quantization,
    QuantizeSettings,
)
from vit_edge.host.quantize.whole import whole_plan
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites, is_op
from vit_edge.host.rewrite.values import static_shape
from vit_edge.spec import Arithmetic, PreprocessSpec

# On ViT-Tiny 20 dB goes with 97.5 % agreement with the float model, 24 dB with 98.5 %, and 27 dB with 99 %.
GOALS = {
    Preset.ACCURATE: Goal(29.5, float_layers=True),
    Preset.BALANCED: Goal(26.5),
    Preset.FAST: Goal(22.5),
    Preset.STATIC: None,
}
PROBE_IMAGES = 24  # images on which the damage of single layers is measured
CORRECTION_IMAGES = 64  # images over which the mean error of each layer is taken
CORRECTIONS = 3  # times the budget is corrected by what the whole model really does
LOOSER = (2.5, 6.0)  # budgets that are tried too where a goal is out of reach


class Search:
    """What is known about the INT8 forms of a model's layers, and the quantizations that follow from it.

    The images are calibrated on, and the model is folded (in place, exactly), when this is made; it must be
    lowered after that. Single layers are measured when a goal first asks for it, and only once.

    Args:
        canonical: the float model.
        images: calibration images; those used are spread evenly over them.
        preprocess: from image to model input, as at run time.
        settings: preset and number of images.
        progress: called with (what, done, count).

    Raises:
        ModelError: the model has no linear layer, or there is no image.
        ImageError: an image cannot be read.
        UsageError: the cache folder cannot be written.
    """

    def __init__(
        self,
        canonical: Canonical,
        images: Sequence[Path],
        preprocess: PreprocessSpec,
        settings: QuantizeSettings,
        progress: Progress | None = None,
    ) -> None:
        self.canonical, self.settings, self.progress = canonical, settings, progress or _silent
        graph = canonical.model.graph
        observer = observer_of(canonical, preprocess)
        self.lowering = observer.settings
        self.linears = {str(node.name): node for node in composites(graph, LINEAR)}
        self.attentions = {str(node.name): node for node in composites(graph, ATTENTION)}
        self.images = _spread(images, settings.images)
        probed = _spread(self.images, PROBE_IMAGES)
        others = [path for path in self.images if path not in set(probed)] or self.images
        corrected = _spread(others, CORRECTION_IMAGES)
        read = Reader(preprocess, {*probed, *corrected}, settings.limits)
        seen = calibrate(observer, self.images, read, settings.cache, self.step("calibrate"))
        self.probe = Probe(self.lowered, [read(path) for path in probed])
        self.costs = Costs()
        self.correction_pixels = [read(path) for path in corrected]
        self.folds = balance(graph, seen)
        normal = self.lowering.normalisation
        exact = plan_layers(graph, self.linears, self.attentions, seen, normal, self.step("round weights"))
        self.by_arithmetic: dict[Arithmetic, LayerPlans] = {
            kind: exact for kind in settings.arithmetics if kind is not Arithmetic.INTEGER
        }
        if Arithmetic.SATURATING in settings.arithmetics:
            reaches = self.attention_reaches(canonical, exact)
            safe = reduced_plans(exact, graph, seen, reaches, normal)
            self.by_arithmetic[Arithmetic.SATURATING] = safe
        self.exact = exact
        self.whole = self.whole_plan() if Arithmetic.INTEGER in settings.arithmetics else None

    @property
    def arithmetic(self) -> Arithmetic:
        """That for which the forms of the layers are chosen."""
        return next(iter(self.by_arithmetic), Arithmetic.EXACT)

    @property
    def plans(self) -> LayerPlans:
        """Of that arithmetic."""
        return self.by_arithmetic.get(self.arithmetic, self.exact)

    def attention_reaches(self, canonical: Canonical, plans: LayerPlans) -> dict[str, AttentionReach]:
        """How large the pair sums of a model's attentions get on the probe images."""
        static = {name: forms[Form.STATIC] for name, forms in plans.attentions.items()}
        tell = self.step("measure pair sums")
        return attention_reaches(canonical, self.lowering, static, self.probe.images, tell)

    def first(self) -> Quantization:
        """What the preset asks for."""
        goal = GOALS[self.settings.preset]
        return self.plain() if goal is None else self.reach(goal)

    def plain(self) -> Quantization:
        """Every layer in one static range: what needs no measurement."""
        forms = dict.fromkeys([*self.plans.linears, *self.plans.attentions], Form.STATIC)
        decisions = [
            LayerDecision(name, form, None, "one static range for every layer", self.plans.methods.get(name))
            for name, form in forms.items()
        ]
        return self.finished(forms, decisions, None)

    def reach(self, goal: Goal) -> Quantization:
        """The fastest forms that reach a goal, or come as close to it as the forms allow."""
        layers, tell = allowed(self.layers, goal), self.step("choose")
        count = CORRECTIONS + len(LOOSER)
        found: list[tuple[float, dict[str, Option]]] = []

        def reached(budget: float) -> float:
            taken = choose(layers, budget)
            found.append((self.probe.damage(self.plans.chosen(_forms(taken))), taken))
            tell(len(found), count)
            return found[-1][0]

        budget, measured = goal.damage, reached(goal.damage)
        while measured > goal.damage and len(found) < CORRECTIONS:
            budget *= goal.damage / measured  # by what the whole model really does
            measured = reached(budget)
        if measured > goal.damage:  # out of reach, where more upgrades are not always less noise
            for factor in LOOSER:
                reached(goal.damage * factor)
            return self.decided(layers, min(found, key=lambda each: each[0])[1], goal)
        tell(count, count)
        return self.decided(layers, found[-1][1], goal)

    def upgrades(self, given: Quantization) -> list[Upgrade]:
        """What of a quantization costs time, the most worthy first; nothing where nothing was chosen."""
        return [] if given.goal is None else upgrades(*self.options(given, given.goal))

    def trimmed(self, given: Quantization, kept: int) -> Quantization:
        """The same with the `kept` most worthy of its upgrades, every other layer in its cheapest form."""
        if given.goal is None:
            raise ValueError("nothing was chosen, and so there is no upgrade to drop")
        layers, taken = self.options(given, given.goal)
        stay = {upgrade.name for upgrade in upgrades(layers, taken)[:kept]}
        fewer = {layer.name: taken[layer.name] if layer.name in stay else cheapest(layer) for layer in layers}
        return self.decided(layers, fewer, given.goal)

    def milliseconds(self, given: Quantization) -> float:
        """What its layers cost together, each timed alone."""
        goal = given.goal or Goal(math.inf, float_layers=True)
        return sum(option.cost for option in self.options(given, goal)[1].values())

    def options(self, given: Quantization, goal: Goal) -> tuple[list[Choice], dict[str, Option]]:
        """The layers with what a goal allows, and of each the option that a quantization took."""
        layers, forms = allowed(self.layers, goal), {layer.name: layer.form for layer in given.layers}
        return layers, {
            layer.name: next(
                option for option in layer.options if option.form is forms.get(layer.name, Form.FLOAT)
            )
            for layer in layers
        }

    @functools.cached_property
    def layers(self) -> tuple[Choice, ...]:
        """Every form of every layer with its damage and cost."""
        return (*self.linear_choices(), *self.attention_choices(), *self.gelu_choice())

    def linear_choices(self) -> list[Choice]:
        """Of the linear layers."""
        tell, layers = self.step("measure layers"), []
        for name, forms in self.plans.linears.items():
            cost = self.costs.of_linear(self.linears[name])
            options = [
                Option(form, self.probe.linear(name, plan), cost[form]) for form, plan in forms.items()
            ]
            options.append(Option(Form.FLOAT, 0.0, cost[Form.FLOAT]))
            layers.append(Choice(name, tuple(options), weights=True))
            tell(len(layers), len(self.plans.linears))
        return layers

    def attention_choices(self) -> list[Choice]:
        """Of the attentions."""
        tell, layers = self.step("measure attention"), []
        for name, cores in self.plans.attentions.items():
            cost = self.costs.of_attention(self.attentions[name])
            options = [
                Option(form, self.probe.attention(name, core), cost[form]) for form, core in cores.items()
            ]
            layers.append(Choice(name, (*options, Option(Form.FLOAT, 0.0, cost[Form.FLOAT]))))
            tell(len(layers), len(self.plans.attentions))
        return layers

    def gelu_choice(self) -> list[Choice]:
        """The exact or the tanh form of all GELUs together; nothing where there is none."""
        exact = [node for node in self.canonical.model.graph if is_op(node, "Gelu") and not _is_tanh(node)]
        if not exact:
            return []
        rows, columns = max((static_shape(node.outputs[0]) or (0, 0) for node in exact), key=math.prod)
        cost = gelu_costs(rows, columns)
        damage = {Form.TANH: self.probe.damage(QuantPlan(tanh_gelu=True)), Form.FLOAT: 0.0}
        return [Choice(GELU, tuple(Option(form, damage[form], cost[form] * len(exact)) for form in damage))]

    def decided(self, layers: Sequence[Choice], taken: Mapping[str, Option], goal: Goal) -> Quantization:
        """The quantization of a choice."""
        decisions = [_decision(layer, taken[layer.name], self.plans) for layer in layers]
        return self.finished(_forms(taken), decisions, goal)

    def finished(
        self, forms: Mapping[str, Form], decisions: Sequence[LayerDecision], goal: Goal | None
    ) -> Quantization:
        """The plan with its biases corrected, where that helps on images that the correction does not see."""
        plain = {kind: plans.chosen(forms) for kind, plans in self.by_arithmetic.items()}
        plain = plain or {self.arithmetic: self.exact.chosen(forms)}
        corrected = {kind: self.corrected(plan) for kind, plan in plain.items()}
        kept, damage = corrected[self.arithmetic]
        recipe = self.recipe(goal) | {
            "bias_correction": kept is not plain[self.arithmetic],
            "probe_db": round(decibels(damage), 2),
        }
        safe = plain.get(Arithmetic.SATURATING)
        return Quantization(
            {kind: plan for kind, (plan, _) in corrected.items()},
            self.arithmetic,
            tuple(decisions),
            recipe,
            dict(SESSION_OPTIONS),
            goal,
            () if safe is None else reduced_operands(self.exact.chosen(forms), safe),
            self.whole,
        )

    def corrected(self, plan: QuantPlan) -> tuple[QuantPlan, float]:
        """A plan with corrected biases, or itself where the probe prefers it; and its damage."""
        better = correct_biases(
            self.canonical, self.lowering, plan, self.correction_pixels, self.step("correct biases")
        )
        before, after = self.probe.damage(plan), self.probe.damage(better)
        return (better, after) if after < before else (plan, before)

    def whole_plan(self) -> WholePlan:
        """For devices without floating point, where there is nothing to choose."""
        pixels = [*self.correction_pixels, *self.probe.images]
        return whole_plan(
            self.canonical, self.lowering, self.exact, pixels, self.step("observe every tensor")
        )

    def recipe(self, goal: Goal | None) -> dict[str, object]:
        """How it is done, in plain JSON types."""
        made: dict[str, object] = {
            "preset": self.settings.preset.value,
            "calibration_images": len(self.images),
            "probe_images": len(self.probe.images),
            "weights": "int8, symmetric, per output column, error-compensated rounding",
            "activations": "uint8, one static range or one range per row",
            "static_ranges": dict(Counter(self.plans.methods.values())),
            "folds": [dataclasses.asdict(fold) for fold in self.folds],
        }
        return made if goal is None else made | {"target_db": goal.target_db}

    def lowered(self, plan: QuantPlan) -> bytes:
        """A file to measure with: batch 1, `pixels`."""
        return bytes(lower(self.canonical, self.lowering, plan, check=False).SerializeToString())

    def step(self, what: str) -> Callable[[int, int], None]:
        """Progress of one step."""
        return lambda done, count: self.progress(what, done, count)


def _forms(taken: Mapping[str, Option]) -> dict[str, Form]:
    return {name: option.form for name, option in taken.items()}


def _is_tanh(node: ir.Node) -> bool:
    attribute = node.attributes.get("approximate")
    return attribute is not None and attribute.as_string() == "tanh"


def _decision(layer: Choice, taken: Option, plans: LayerPlans) -> LayerDecision:
    static = next((option for option in layer.options if option.form is Form.STATIC), None)
    sensitivity = None if static is None else round(decibels(static.damage), 2)
    first = cheapest(layer)
    added = f"{taken.cost - first.cost:+.3f} ms against {first.form.value}"
    if taken is first:
        reason = f"the fastest form, {taken.cost:.3f} ms"
    elif taken.form is Form.FLOAT:
        reason = f"no quantization noise, {added}"
    else:
        reason = f"{decibels(taken.damage) - decibels(first.damage):+.1f} dB, {added}"
    return LayerDecision(layer.name, taken.form, sensitivity, reason, plans.methods.get(layer.name))


def _spread(images: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the images, evenly spread."""
    if not images:
        raise ModelError("calibration needs at least one image")
    count = min(count, len(images))
    return [images[i * len(images) // count] for i in range(count)]


def _silent(what: str, done: int, count: int) -> None:
    """No progress is wanted."""
