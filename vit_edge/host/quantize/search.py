"""The search for the form of every layer: measured once, then solved for as many goals as are asked for."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from vit_edge.host.lower.model import LowerSettings
from vit_edge.host.plan import FullIntegerPlan, QuantPlan
from vit_edge.host.quantize.calibration import Folded, calibrate, fold
from vit_edge.host.quantize.choose import (
    LayerOptions,
    Option,
    Upgrade,
    allowed,
    cheapest,
    choose_forms,
    upgrades,
)
from vit_edge.host.quantize.correct import correct_biases
from vit_edge.host.quantize.cost import Costs
from vit_edge.host.quantize.macs import integer_macs
from vit_edge.host.quantize.measured import choices, without_forms
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.host.quantize.plan_set import PlanSet, plan_set
from vit_edge.host.quantize.plans import GELU, LayerPlans
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.host.quantize.reduced_range import reduced_operands
from vit_edge.host.quantize.types import GOALS, Form, Goal, LayerDecision, Quantization, QuantizeSettings
from vit_edge.host.quantize.widths import needs
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import static_shape
from vit_edge.manifest import Method
from vit_edge.progress import Progress, Step, step_of
from vit_edge.spec import Arithmetic, PreprocessSpec

CORRECTIONS = 5  # choices that are measured while the budget is corrected by what the whole model really does
LEAST_STEP = 0.97  # of the budget, so that another choice comes soon
LOOSER = (2.5, 6.0)  # budgets that are tried too where a goal is out of reach


class Search:
    """What is known about the INT8 forms of a model's layers, and the quantizations that follow from it.

    Single layers are measured when a goal first asks for it, and only once.

    Args:
        folded: the model, which is what must be lowered.
        plans: every form that its layers may take.
        settings: preset; what the calibration was made with.
        progress: called with (what, done, count).
        each: a goal is for each output, not for the mean over them.
    """

    def __init__(
        self,
        folded: Folded,
        plans: PlanSet,
        settings: QuantizeSettings,
        progress: Progress | None = None,
        *,
        each: bool = False,
    ) -> None:
        self.folded, self.canonical, self.calibration = folded, folded.canonical, folded.calibration
        self.plan_set, self.settings, self.progress = plans, settings, progress
        self.costs = Costs()
        self.measured: dict[frozenset[tuple[str, Form]], float] = {}  # the noise of forms that were tried
        probed, reference = self.calibration.probed, self.calibration.reference
        self.probe = Probe(folded.canonical, self.lowering, probed, reference, each=each)

    @property
    def lowering(self) -> LowerSettings:
        """The form in which plans are measured."""
        return self.calibration.lowering

    @property
    def plans(self) -> LayerPlans:
        """Of the arithmetic for which forms are chosen."""
        return self.plan_set.meant

    def first(self) -> Quantization:
        """What the preset asks for."""
        goal = GOALS[self.settings.preset]
        return self.plain() if goal is None else self.reach(goal)

    def plain(self) -> Quantization:
        """Every layer in one static range: what needs no measurement."""
        plans, reason = self.plans, "one static range for every layer"
        forms = dict.fromkeys([*plans.linears, *plans.attentions, *plans.convs], Form.STATIC)
        decisions = [
            LayerDecision(name, form, None, reason, plans.methods.get(name)) for name, form in forms.items()
        ]
        return self.finished(forms, decisions, None)

    def reach(self, goal: Goal, most: float = math.inf) -> Quantization:
        """The fastest forms that reach a goal, or come as close to it as forms of `most` milliseconds can."""
        layers, tell = allowed(self.layers, goal), self.step("choose")
        count = CORRECTIONS + len(LOOSER)
        found: list[tuple[float, dict[str, Option]]] = []

        def reached(taken: dict[str, Option]) -> float:
            found.append((self.noise(_forms(taken)), taken))
            tell(len(found), count)
            return found[-1][0]

        quietest = choose_forms(layers, 0.0, most)
        budget, taken = goal.noise, choose_forms(layers, goal.noise, most)
        measured = reached(taken)
        while measured > goal.noise and len(found) < CORRECTIONS and taken != quietest:
            budget *= min(goal.noise / measured, LEAST_STEP)  # by what the whole model really does
            fewer = choose_forms(layers, budget, most)
            if fewer != taken:
                taken, measured = fewer, reached(fewer)
        if measured > goal.noise:  # out of reach, where more upgrades are not always less noise
            for factor in LOOSER:
                reached(choose_forms(layers, goal.noise * factor, most))
            return self.decided(layers, min(found, key=lambda each: each[0])[1], goal)
        tell(count, count)
        return self.decided(layers, found[-1][1], goal)

    def noise(self, forms: Mapping[str, Form]) -> float:
        """That of the layers in the given forms together; the same forms are measured once."""
        key = frozenset(forms.items())
        if key not in self.measured:
            self.measured[key] = self.probe.reached(self.plans.chosen(forms))
        return self.measured[key]

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

    def options(self, given: Quantization, goal: Goal) -> tuple[list[LayerOptions], dict[str, Option]]:
        """The layers with what a goal allows, and of each the option that a quantization took."""
        layers, forms = allowed(self.layers, goal), {layer.name: layer.form for layer in given.layers}
        return layers, {
            layer.name: next(
                option for option in layer.options if option.form is forms.get(layer.name, Form.FLOAT)
            )
            for layer in layers
        }

    @functools.cached_property
    def layers(self) -> tuple[LayerOptions, ...]:
        """Every form of every layer with its noise and cost."""
        return (*choices(self.canonical, self.plans, self.probe, self.costs, self.step), *self.gelu_options())

    def gelu_options(self) -> list[LayerOptions]:
        """The exact or the tanh form of all GELUs together; nothing where there is none."""
        exact = [node for node in self.canonical.model.graph if is_op(node, "Gelu") and not _is_tanh(node)]
        if not exact:
            return []
        shapes = [static_shape(node.outputs[0]) or (0, 0) for node in exact]
        rows, columns = max(shapes, key=math.prod)
        cost, count = self.costs.of_gelu(rows, columns), sum(map(math.prod, shapes)) / (rows * columns)
        noise = {Form.TANH: self.probe.noise(QuantPlan(tanh_gelu=True)), Form.FLOAT: 0.0}
        return [LayerOptions(GELU, tuple(Option(form, noise[form], cost[form] * count) for form in noise))]

    def decided(
        self, layers: Sequence[LayerOptions], taken: Mapping[str, Option], goal: Goal
    ) -> Quantization:
        """The quantization of a choice."""
        decisions = [_decision(layer, taken[layer.name], self.plans) for layer in layers]
        return self.finished(_forms(taken), decisions, goal)

    def finished(
        self, forms: Mapping[str, Form], decisions: Sequence[LayerDecision], goal: Goal | None
    ) -> Quantization:
        """The plan with its biases corrected, where that helps on images that the correction does not see."""
        given = self.plan_set
        plain = {kind: plans.chosen(forms) for kind, plans in given.by_arithmetic.items()}
        plain = plain or {given.arithmetic: given.exact.chosen(forms)}
        before = {
            kind: self.probe.reached(plan) for kind, plan in plain.items() if kind is not given.arithmetic
        }
        before[given.arithmetic] = self.noise(forms)
        corrected = {kind: self.corrected(plan, before[kind]) for kind, plan in plain.items()}
        kept, noise = corrected[given.arithmetic]
        recipe = Method(
            preset=self.settings.preset.value,
            calibration_images=len(self.calibration.images),
            probe_images=len(self.calibration.probed),
            weights="int8, symmetric, per output column, error-compensated rounding",
            activations=_activations(forms),
            static_ranges=dict(Counter(self.plans.methods.values())),
            folds=self.folded.folds,
            outliers=self.folded.outliers,
            target_db=None if goal is None else goal.target_db,
            integer_macs=integer_macs(self.canonical, kept),
            bias_correction=kept is not plain[given.arithmetic],
            probe_db=round(decibels(noise), 2),
        )
        safe = plain.get(Arithmetic.SATURATING)
        return Quantization(
            {kind: plan for kind, (plan, _) in corrected.items()},
            given.arithmetic,
            (*decisions, *without_forms(self.canonical)),
            recipe,
            dict(SESSION_OPTIONS),
            goal,
            () if safe is None else reduced_operands(given.exact.chosen(forms), safe),
            self.full_integer,
        )

    @functools.cached_property
    def full_integer(self) -> FullIntegerPlan | None:
        """The plan for integer arithmetic alone, with what each layer would lose by 8 bits, if asked for."""
        plan = self.plan_set.full_integer
        if plan is None:
            return None
        return dataclasses.replace(plan, needs=needs(self.canonical, self.layers))

    def corrected(self, plan: QuantPlan, before: float) -> tuple[QuantPlan, float]:
        """A plan with corrected biases, or itself where the probe prefers it; and its noise.

        Args:
            plan: uncorrected.
            before: its noise.
        """
        images, tell = self.calibration.corrected, self.step("correct biases")
        better = correct_biases(self.canonical, self.lowering, plan, images, tell)
        after = self.probe.reached(better)
        return (better, after) if after < before else (plan, before)

    def step(self, what: str) -> Step:
        """Progress of one step."""
        return step_of(self.progress, what)


def search_of(
    canonical: Canonical,
    images: Sequence[Path],
    preprocess: PreprocessSpec,
    settings: QuantizeSettings,
    progress: Progress | None = None,
) -> Search:
    """Calibrate, fold and plan; takes minutes.

    Args:
        canonical: the float model; left unchanged. What must be lowered is the folded copy in the search.
        images: calibration images; those used are spread evenly over them.
        preprocess: from image to model input, as at run time.
        settings: preset, number of images and what plans are made for.
        progress: called with (what, done, count).

    Raises:
        ModelError: the model has no linear layer, or there is no image.
        ImageError: an image cannot be read.
        UsageError: the cache folder cannot be written.
    """
    folded = fold(canonical, calibrate(canonical, images, preprocess, settings, progress))
    return Search(folded, plan_set(folded, settings.arithmetics, progress), settings, progress)


def _activations(forms: Mapping[str, Form]) -> str:
    twice = ", some with their remainders in a second code" if Form.FINE in forms.values() else ""
    return f"uint8, one static range or one range per row{twice}"


def _forms(taken: Mapping[str, Option]) -> dict[str, Form]:
    return {name: option.form for name, option in taken.items()}


def _is_tanh(node: ir.Node) -> bool:
    attribute = node.attributes.get("approximate")
    return attribute is not None and attribute.as_string() == "tanh"


def _decision(layer: LayerOptions, taken: Option, plans: LayerPlans) -> LayerDecision:
    static = next((option for option in layer.options if option.form is Form.STATIC), None)
    sensitivity = None if static is None else round(decibels(static.noise), 2)
    first = cheapest(layer)
    added = f"{taken.cost - first.cost:+.3f} ms against {first.form.value}"
    if taken is first:
        reason = f"the fastest form, {taken.cost:.3f} ms"
    elif taken.form is Form.FLOAT:
        reason = f"no quantization noise, {added}"
    else:
        reason = f"{decibels(taken.noise) - decibels(first.noise):+.1f} dB, {added}"
    return LayerDecision(layer.name, taken.form, sensitivity, reason, plans.methods.get(layer.name))
