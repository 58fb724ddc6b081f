"""Looks at the gate and searches whose outcome is known, without a model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.manifests import METHOD
from vit_edge.host.bundling.repair import Trial
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.choose import (
    LayerOptions,
    Option,
    Upgrade,
    allowed,
    cheapest,
    choose_forms,
    upgrades,
)
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.types import Form, Goal, LayerDecision, Quantization
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.spec import Arithmetic, Tolerance
from vit_edge.verify import judge

ONE_POINT = Tolerance()


def comparison(lost: int, n: int, tolerance: Tolerance = ONE_POINT, *, labelled: bool = True) -> Comparison:
    """Two models of two classes on n images, of which the second gets `lost` wrong and the first none."""
    first = np.tile(np.asarray([[1.0, 0.0]], np.float32), (n, 1))
    second = first.copy()
    second[:lost] = second[:lost, ::-1]
    labels = np.zeros(n, np.int64) if labelled else None
    report = judge(first, second, labels, tolerance)
    return Comparison(report, ImageSet("synthetic", (Path("x.png"),) * n, labels), n, None, first, second)


def quantization(forms: dict[str, Form], probe_db: float, goal: Goal | None) -> Quantization:
    layers = tuple(LayerDecision(name, form, None, "synthetic") for name, form in forms.items())
    method = dataclasses.replace(METHOD, probe_db=probe_db)
    return Quantization({Arithmetic.SATURATING: FLOAT}, Arithmetic.SATURATING, layers, method, {}, goal)


def trial(
    name: str, lost: int, n: int = 1000, tolerance: Tolerance = ONE_POINT, found: Quantization | None = None
) -> Trial:
    judged = {"onnx/model_quantized.onnx": comparison(lost, n, tolerance)}
    return Trial(name, found or quantization({}, 20.0, Goal(20.0)), {}, judged)


@dataclasses.dataclass
class SyntheticSearch:
    """A search over layers whose noises add up exactly."""

    layers: Sequence[LayerOptions]
    asked: list[str] = dataclasses.field(default_factory=list)

    def plain(self) -> Quantization:
        return self.made({layer.name: layer.options[0] for layer in self.layers}, None)

    def reach(self, goal: Goal) -> Quantization:
        self.asked.append(f"{goal.target_db:g}")
        return self.made(choose_forms(allowed(self.layers, goal), goal.noise), goal)

    def upgrades(self, given: Quantization) -> list[Upgrade]:
        return [] if given.goal is None else upgrades(allowed(self.layers, given.goal), self.taken(given))

    def trimmed(self, given: Quantization, kept: int) -> Quantization:
        stay = {upgrade.name for upgrade in self.upgrades(given)[:kept]}
        now = self.taken(given)
        taken = {
            layer.name: now[layer.name] if layer.name in stay else cheapest(layer) for layer in self.layers
        }
        return self.made(taken, given.goal)

    def milliseconds(self, given: Quantization) -> float:
        return sum(option.cost for option in self.taken(given).values())

    def taken(self, given: Quantization) -> dict[str, Option]:
        forms = {layer.name: layer.form for layer in given.layers}
        return {
            layer.name: next(option for option in layer.options if option.form is forms[layer.name])
            for layer in self.layers
        }

    def made(self, taken: dict[str, Option], goal: Goal | None) -> Quantization:
        forms = {name: option.form for name, option in taken.items()}
        return quantization(forms, decibels(sum(option.noise for option in taken.values())), goal)


def layers_with(noises: Sequence[float], added: float = 1.0) -> list[LayerOptions]:
    """Layers with this noise in their cheapest form, a thousandth of it for `added` ms, none in float."""
    return [
        LayerOptions(
            f"layer.{i}",
            (
                Option(Form.STATIC, noise, 1.0),
                Option(Form.PER_TOKEN, noise / 1000, 1.0 + added),
                Option(Form.FLOAT, 0.0, 1.0 + 4 * added),
            ),
            weights=True,
        )
        for i, noise in enumerate(noises)
    ]
