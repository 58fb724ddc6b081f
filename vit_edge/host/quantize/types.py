"""What quantization is asked for and what it answers."""

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path

from vit_edge.fields import settle_members
from vit_edge.host.plan import FullIntegerPlan, QuantPlan
from vit_edge.manifest import LayerRecord, Method
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.spread.task import ALONE, Spread
from vit_edge.spec import Arithmetic


class Preset(enum.Enum):
    """The balance of accuracy against speed."""

    ACCURATE = "accurate"
    BALANCED = "balanced"
    FAST = "fast"
    STATIC = "static"  # plain static quantization: every layer has one range, nothing is chosen


@dataclasses.dataclass(frozen=True)
class Goal:
    """What the choice of forms aims at, and which forms it may choose."""

    target_db: float  # signal to quantization noise of the logits, on calibration images
    float_layers: bool = False  # a float layer takes four times the space of an INT8 one
    per_token: bool = True  # not every execution provider runs one scale per token fast

    @property
    def noise(self) -> float:
        """The same as noise power over signal power."""
        return float(10 ** (-self.target_db / 10))


# On ViT-Tiny 20 dB goes with 97.5 % agreement with the float model, 24 dB with 98.5 %, and 27 dB with 99 %.
GOALS = {
    Preset.ACCURATE: Goal(29.5, float_layers=True),
    Preset.BALANCED: Goal(26.5),
    Preset.FAST: Goal(22.5),
    Preset.STATIC: None,
}


@dataclasses.dataclass(frozen=True)
class QuantizeSettings:
    """What to quantize for."""

    preset: Preset = Preset.BALANCED
    images: int = 128  # calibration images used at most, evenly spread over those given
    cache: Path | None = None  # folder in which calibrations are kept: interrupted passes go on, others reuse
    arithmetics: tuple[Arithmetic, ...] = (Arithmetic.SATURATING,)  # plans are made for; forms for the first
    limits: DecodeLimits = DEFAULT_LIMITS  # what the images are decoded within
    spread: Spread = ALONE  # who calibrates; what is made does not depend on it

    def __post_init__(self) -> None:
        """Refuse a calibration without images, and one for nothing."""
        settle_members(self)
        if not self.arithmetics:
            raise ValueError("quantization needs at least one arithmetic to make a plan for")
        if self.images < 1:
            raise ValueError(f"images must be at least 1 for a calibration, got {self.images}")


class Form(enum.Enum):
    """How one layer is computed."""

    STATIC = "int8"  # one activation range for the layer
    PER_TOKEN = "int8_row"  # noqa: S105  one activation scale per token (row), measured at run time
    FINE = "int8_fine"  # one range, and what its codes leave over in codes of finer steps
    WIDE = "int8_a16"  # products read activations of 16 bits
    FLOAT = "float32"
    TANH = "tanh"  # of GELU alone: its tanh form


@dataclasses.dataclass(frozen=True)
class LayerDecision:
    """What was decided for one layer, and why.

    `sensitivity_db` is the signal to quantization noise ratio of the logits, in dB, over calibration images
    with this layer alone quantized by one static range: the lower, the more the layer suffers. `static_range`
    says which method found that range: its error in the layer's output was the smallest.
    """

    name: str
    form: Form
    sensitivity_db: float | None
    reason: str
    static_range: str | None = None

    @property
    def record(self) -> LayerRecord:
        """What the manifest says of it."""
        return LayerRecord(self.name, self.form.value, self.sensitivity_db, self.reason, self.static_range)


@dataclasses.dataclass(frozen=True)
class Reduced:
    """One operand that could have saturated with eight bits."""

    name: str  # of the layer; of an attention with .keys or .values
    columns: int  # that got fewer steps; keys and values have one scale for all
    of: int
    steps: int  # on either side of zero, of the narrowest column; 127 are eight bits, 63 seven


@dataclasses.dataclass(frozen=True)
class Quantization:
    """A finished quantization: ready to be lowered and recorded."""

    plans: Mapping[Arithmetic, QuantPlan]  # of the same forms
    arithmetic: Arithmetic  # whose plan is meant
    layers: tuple[LayerDecision, ...]
    recipe: Method  # goes into the manifest
    session_options: dict[str, str]  # onnxruntime config entries that the INT8 file runs best with
    goal: Goal | None = None  # what the forms were chosen for; None where nothing was chosen
    reduced: tuple[Reduced, ...] = ()  # what the plan for saturating arithmetic has fewer steps in
    full_integer: FullIntegerPlan | None = None  # if asked for

    @property
    def plan(self) -> QuantPlan:
        """For the arithmetic that is meant."""
        return self.plans[self.arithmetic]

    def with_plan(self, plan: QuantPlan, layers: tuple[LayerDecision, ...]) -> "Quantization":
        """The same with another plan for the arithmetic that is meant, and no other."""
        return dataclasses.replace(self, plans={self.arithmetic: plan}, layers=layers)
