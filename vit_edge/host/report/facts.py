"""Everything that a report says, as data."""

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

from vit_edge import plain
from vit_edge.diagnosis import Finding
from vit_edge.gate_report import GateReport
from vit_edge.host.report.ranges import ActivationRange, Ranges, WeightRange
from vit_edge.manifest import LayerRecord, Machine, OperatorTime, Recipe, RepairRecord, Seen
from vit_edge.runtime.measure.timing import Latency, Ratio
from vit_edge.source_parity import UNRECORDED, SourceParity


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """One model file as it was measured."""

    name: str
    sha256: str
    size_mb: float
    """10^6 bytes."""
    providers: tuple[str, ...]
    latency: Latency
    ratio: Ratio
    """To the reference."""
    times_ms: tuple[float, ...]
    """Of all rounds, in rising order."""
    peak_rss_mb: float | None
    operators: tuple[OperatorTime, ...]
    gate: GateReport | None
    """None: the reference."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One class that a model considers."""

    label: str
    probability: float
    """Softmax, 0 to 1."""


@dataclasses.dataclass(frozen=True)
class FlippedImage:
    """An image on which the two models answer differently."""

    image: str
    """File name."""
    truth: str | None
    """Label, where known."""
    float_top: tuple[Answer, ...]
    quant_top: tuple[Answer, ...]
    thumbnail: bytes = dataclasses.field(repr=False)
    """JPEG of what the models see."""


@dataclasses.dataclass(frozen=True)
class WorstInput:
    """What one of the most troubled layers reads."""

    activation: ActivationRange
    weight: WeightRange | None
    """Of the product that reads it; None where that has none."""
    decision: LayerRecord | None
    """None where decisions are not recorded."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about an INT8 model and its float reference."""

    title: str
    data: str
    """Name of the folder of images."""
    labelled: bool
    held_out: bool
    """The images were taken from the calibration folder."""
    reference: str
    judged: str
    default: str | None
    """What a bundle runs unless told otherwise; None outside a bundle."""
    gate: GateReport
    """Of the judged model."""
    models: tuple[ModelFacts, ...]
    """The reference first."""
    flips: tuple[FlippedImage, ...]
    flips_total: int
    layers: tuple[LayerRecord, ...]
    """Empty where they are not recorded."""
    ranges: Ranges
    worst: tuple[WorstInput, ...]
    recipe: Recipe | None
    """None where it is not recorded."""
    versions: Mapping[str, str]
    machine: Machine
    threads: int | str | None
    """As asked for; None: left to onnxruntime."""
    source_parity: SourceParity = UNRECORDED
    findings: tuple[Finding, ...] = ()
    """Known pitfalls of the float model; empty outside a bundle, where nobody looked."""

    @property
    def reference_model(self) -> ModelFacts:
        """The float one."""
        return self.models[0]

    @property
    def judged_model(self) -> ModelFacts:
        """The one that the verdict is about."""
        return next(model for model in self.models if model.name == self.judged)

    @property
    def candidates(self) -> tuple[Seen, ...]:
        """The models that a search saw."""
        return () if self.recipe is None else self.recipe.pareto

    @property
    def repair(self) -> RepairRecord | None:
        """What was chosen of them, and why."""
        return None if self.recipe is None else self.recipe.repair

    @property
    def plain_recipe(self) -> dict[str, Any]:
        """Plain JSON types, without the candidates and their repair; empty where it is not recorded."""
        raw: dict[str, Any] = {} if self.recipe is None else plain.of(self.recipe)
        return {key: value for key, value in raw.items() if key not in ("pareto", "repair")}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without the thumbnails; what is infinite is null."""
        raw = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        apart = {"candidates": self.candidates, "repair": self.repair}
        raw |= {"recipe": self.plain_recipe} | plain.of(apart)
        return raw


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(each) for name, each in fields.items() if not isinstance(each, bytes)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
