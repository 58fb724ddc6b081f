"""Quantization of a canonical ViT, from calibration images to a plan."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vit_edge.errors import ModelError
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.plan import QuantPlan
from vit_edge.host.quantize.balance import Fold, balance
from vit_edge.host.quantize.cache import calibrate
from vit_edge.host.quantize.choose import Choice, Option, cheapest, choose
from vit_edge.host.quantize.correct import correct_biases
from vit_edge.host.quantize.cost import Costs, gelu_costs
from vit_edge.host.quantize.observe import SESSION_OPTIONS, Observer, Pixels
from vit_edge.host.quantize.plans import GELU, LayerPlans, plan_layers
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.host.quantize.types import Form, LayerDecision, Preset, Progress, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites, is_op
from vit_edge.host.rewrite.values import static_shape
from vit_edge.runtime.preprocess import load_pixels
from vit_edge.spec import InputForm, PreprocessSpec

# Logit signal to quantization noise that each preset aims at, in dB, on calibration images. On ViT-Tiny 20 dB
# goes with 97.5 % agreement with the float model, 24 dB with 98.5 %, and 27 dB with 99 %.
TARGET_DB = {Preset.ACCURATE: 29.5, Preset.BALANCED: 26.5, Preset.FAST: 22.5}
FLOAT_IS_AN_OPTION = frozenset({Preset.ACCURATE})  # a float layer takes four times the space of an INT8 one
PROBE_IMAGES = 24  # images on which the damage of single layers is measured
CORRECTION_IMAGES = 64  # images over which the mean error of each layer is taken
CORRECTIONS = 3  # times the budget is corrected by what the whole model really does


def quantize(
    canonical: Canonical,
    images: Sequence[Path],
    preprocess: PreprocessSpec,
    settings: QuantizeSettings,
    progress: Progress | None = None,
) -> Quantization:
    """Decide ranges, weights and the form of every layer from calibration images.

    The model itself is changed by exact folds (in place), so that it must be lowered after this call.

    Args:
        canonical: the float model.
        images: calibration images; those used are spread evenly over them.
        preprocess: from image to model input, as at run time.
        settings: preset and number of images.
        progress: called with (what, done, count).

    Raises:
        ModelError: the model has no linear layer.
        ImageError: an image cannot be read.
        UsageError: the cache folder cannot be written.
    """
    return _Quantizer(canonical, preprocess, settings, progress or _silent).run(
        _spread(images, settings.images)
    )


class _Quantizer:
    def __init__(
        self, canonical: Canonical, preprocess: PreprocessSpec, settings: QuantizeSettings, progress: Progress
    ) -> None:
        self.canonical, self.preprocess, self.settings = canonical, preprocess, settings
        self.progress = progress
        self.goal = 10 ** (-TARGET_DB[settings.preset] / 10)  # noise power over signal power of the logits
        self.observer = observer_of(canonical, preprocess)
        self.lowering = self.observer.settings
        graph = canonical.model.graph
        self.linears = {str(node.name): node for node in composites(graph, LINEAR)}
        self.attentions = {str(node.name): node for node in composites(graph, ATTENTION)}

    def run(self, images: Sequence[Path]) -> Quantization:
        seen = calibrate(self.observer, images, self.preprocess, self.settings.cache, self.step("calibrate"))
        probe = Probe(self.lowered, self.pixels(_spread(images, PROBE_IMAGES)))
        graph = self.canonical.model.graph
        applied = balance(graph, seen)
        normal = self.lowering.normalisation
        plans = plan_layers(graph, self.linears, self.attentions, seen, normal, self.step("round weights"))
        layers = [*self.choices(plans, probe), *self.gelu_choice(probe)]
        taken, plan, measured = self.chosen(layers, plans, probe)
        better, damage = self.corrected(plan, images, probe)
        corrected = damage < measured  # on images that the correction was not fitted to
        recipe = self.recipe(images, applied, plans) | {
            "bias_correction": corrected,
            "probe_db": round(decibels(min(damage, measured)), 2),
        }
        decisions = tuple(_decision(layer, taken[layer.name], plans) for layer in layers)
        return Quantization(better if corrected else plan, decisions, recipe, dict(SESSION_OPTIONS))

    def step(self, what: str) -> Callable[[int, int], None]:
        """Progress of one step."""
        return lambda done, count: self.progress(what, done, count)

    def pixels(self, images: Sequence[Path]) -> list[Pixels]:
        return [load_pixels(path, self.preprocess) for path in images]

    def lowered(self, plan: QuantPlan) -> bytes:
        return bytes(lower(self.canonical, self.lowering, plan, check=False).SerializeToString())

    def choices(self, plans: LayerPlans, probe: Probe) -> list[Choice]:
        """Every form of every layer with its damage and cost."""
        costs, tell = Costs(), self.step("measure layers")
        layers: list[Choice] = []
        total = len(plans.linears) + len(plans.attentions)
        for name, forms in plans.linears.items():
            cost = costs.of_linear(self.linears[name])
            options = [Option(form, probe.linear(name, plan), cost[form]) for form, plan in forms.items()]
            hopeless = min(option.damage for option in options) > self.goal
            if hopeless or self.settings.preset in FLOAT_IS_AN_OPTION:
                options.append(Option(Form.FLOAT, 0.0, cost[Form.FLOAT]))
            layers.append(Choice(name, tuple(options)))
            tell(len(layers), total)
        for name, cores in plans.attentions.items():
            cost = costs.of_attention(self.attentions[name])
            options = [Option(form, probe.attention(name, core), cost[form]) for form, core in cores.items()]
            layers.append(Choice(name, (*options, Option(Form.FLOAT, 0.0, cost[Form.FLOAT]))))
            tell(len(layers), total)
        return layers

    def gelu_choice(self, probe: Probe) -> list[Choice]:
        """The exact or the tanh form of all GELUs together; nothing where there is none."""
        exact = [node for node in self.canonical.model.graph if is_op(node, "Gelu") and not _is_tanh(node)]
        if not exact:
            return []
        rows, columns = max((static_shape(node.outputs[0]) or (0, 0) for node in exact), key=math.prod)
        cost = gelu_costs(rows, columns)
        damage = {Form.TANH: probe.damage(QuantPlan(tanh_gelu=True)), Form.FLOAT: 0.0}
        return [Choice(GELU, tuple(Option(form, damage[form], cost[form] * len(exact)) for form in damage))]

    def chosen(
        self, layers: list[Choice], plans: LayerPlans, probe: Probe
    ) -> tuple[dict[str, Option], QuantPlan, float]:
        """Choose for the preset's budget; correct the budget by what the whole model really does."""
        budget, tell = self.goal, self.step("choose")
        for attempt in range(1, CORRECTIONS + 1):
            taken = choose(layers, budget)
            plan = plans.chosen({name: option.form for name, option in taken.items()})
            measured = probe.damage(plan)
            tell(attempt, CORRECTIONS)
            if measured <= self.goal:
                break
            budget *= self.goal / measured
        return taken, plan, measured

    def corrected(self, plan: QuantPlan, images: Sequence[Path], probe: Probe) -> tuple[QuantPlan, float]:
        """The plan with biases corrected on images that the probe does not use, and its damage."""
        held_out = set(_spread(images, PROBE_IMAGES))
        others = [path for path in images if path not in held_out] or list(images)
        pixels = self.pixels(_spread(others, CORRECTION_IMAGES))
        better = correct_biases(self.canonical, self.lowering, plan, pixels, self.step("correct biases"))
        return better, probe.damage(better)

    def recipe(self, images: Sequence[Path], applied: list[Fold], plans: LayerPlans) -> dict[str, object]:
        return {
            "preset": self.settings.preset.value,
            "calibration_images": len(images),
            "probe_images": min(PROBE_IMAGES, len(images)),
            "weights": "int8, symmetric, per output column, error-compensated rounding",
            "activations": "uint8, one static range or one range per row",
            "static_ranges": dict(Counter(plans.methods.values())),
            "folds": [dataclasses.asdict(fold) for fold in applied],
            "target_db": TARGET_DB[self.settings.preset],
        }


def observer_of(canonical: Canonical, preprocess: PreprocessSpec) -> Observer:
    """Watches, in the float model, everything that quantization needs to know.

    Raises:
        ModelError: the model has no linear layer.
    """
    graph = canonical.model.graph
    linears = [str(node.name) for node in composites(graph, LINEAR)]
    if not linears:
        raise ModelError(f"{canonical.name}: has no linear layer to quantize")
    operands = [f"{node.name}.{letter}" for node in composites(graph, ATTENTION) for letter in "qkvp"]
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    lowering = LowerSettings(1, InputForm.PIXELS, Normalisation(mean, std))
    return Observer(canonical, lowering, [*linears, *operands])


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
