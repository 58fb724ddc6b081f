"""A class of devices: its execution provider, what it runs, and how that is known."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Literal

from vit_edge import plain
from vit_edge.fields import shown
from vit_edge.plain import Mark, Within
from vit_edge.spec.form import ActivationType, Batch, FloatType, ModelForm


class QuantizedOperators(enum.Enum):
    """Which operators become integer."""

    NONE = "none"  # the model stays in its float type
    LINEAR = "linear"  # linear layers and the patch embedding
    PRODUCTS = "products"  # and the two matrix products of attention
    ALL = "all"  # everything, as an accelerator without floating point wants it


# The onnxruntime session config entries that a model file or a target may set, with the values that are safe.
# Everything else (paths of libraries, caches, profiles) stays with the program that runs the model.
SESSION_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "session.qdqisint8allowed": ("0", "1"),
    "session.x64quantprecision": ("0", "1"),
    "session.disable_quant_qdq": ("0", "1"),
    "session.enable_quant_qdq_cleanup": ("0", "1"),
    "session.set_denormal_as_zero": ("0", "1"),
    "session.intra_op.allow_spinning": ("0", "1"),
    "session.inter_op.allow_spinning": ("0", "1"),
    "session.disable_prepacking": ("0", "1"),
    "session.disable_cpu_ep_fallback": ("0", "1"),
    "mlas.enable_gemm_fastmath_arm64_bfloat16": ("0", "1"),
}


def session_options(raw: object) -> tuple[tuple[str, str], ...]:
    """Read a table of session config entries, sorted by key.

    Raises:
        ValueError: no table, a key that is not in SESSION_OPTIONS, or a value that it does not allow.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"session_options must be an object, got {type(raw).__name__}")
    for key, value in raw.items():
        if key not in SESSION_OPTIONS:
            allowed = ", ".join(SESSION_OPTIONS)
            raise ValueError(f"session_options has the key {shown(key)}, allowed are {allowed}")
        if not isinstance(value, str) or value not in SESSION_OPTIONS[key]:
            allowed = " or ".join(map(repr, SESSION_OPTIONS[key]))
            raise ValueError(f"session_options {key} must be {allowed}, got {shown(value)}")
    return tuple(sorted(raw.items()))


class Packaging(enum.Enum):
    """How an execution provider comes to a machine."""

    STOCK = "stock"  # inside the onnxruntime wheel
    REPLACEMENT = "replacement"  # a build of onnxruntime that takes the stock wheel's place
    PLUGIN = "plugin"  # a wheel of its own, registered with the stock onnxruntime at run time
    ELSEWHERE = "elsewhere"  # in no Python wheel: a browser, a phone, or a build of one's own


@dataclasses.dataclass(frozen=True)
class ProviderRuns:
    """The number formats that an execution provider can run."""

    activation_types: tuple[ActivationType, ...]
    weight_bits: tuple[Literal[4, 7, 8], ...]
    float_types: tuple[FloatType, ...]
    batches: tuple[Batch, ...]
    asymmetric: bool
    """Zero points of activations other than the middle of the range."""


@dataclasses.dataclass(frozen=True)
class ProviderSpec:
    """An onnxruntime execution provider: its name, where it comes from, and what it can run."""

    name: str
    """Short: CPUExecutionProvider is "cpu"."""
    packaging: Packaging
    package: str
    """The distribution that holds it."""
    module: str | None
    """Of a plugin: has get_library_path() and get_ep_name()."""
    extra: str | None
    """The extra of ours that installs the package."""
    devices: tuple[str, ...]
    """Of "npu", "gpu", "cpu"; where it offers several, the first that is there."""
    contexts: bool
    """Models are compiled for the device, which is worth keeping (EPContext)."""
    options: tuple[tuple[str, str], ...]
    runs: ProviderRuns

    @property
    def install(self) -> str:
        """The command that brings it to this machine, or where else it is to be had."""
        if self.packaging is Packaging.ELSEWHERE:
            return f"it comes with {self.package}, not with a wheel of onnxruntime"
        if self.packaging is Packaging.REPLACEMENT:
            return f"run: pip uninstall onnxruntime && pip install {self.package}"
        return f"run: pip install {repr(f'vit-edge[{self.extra}]') if self.extra else self.package}"


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What a machine must be; an empty tuple asks for nothing."""

    systems: tuple[str, ...]
    """As platform.system() calls them."""
    architectures: tuple[str, ...]
    """As platform.machine() calls them, in lower case."""
    flags_all: tuple[str, ...]
    """CPU flags as Linux calls them."""
    flags_any: tuple[str, ...]


class VerificationState(enum.Enum):
    """How it is known that a target's files run as they should."""

    VERIFIED = "verified"  # on such a device
    SIMULATED = "simulated"  # on a simulator of it
    UNVERIFIED = "unverified"


@dataclasses.dataclass(frozen=True)
class Verification:
    """One thing that was checked, or that nothing was."""

    state: VerificationState
    what: str
    """What was checked and found; of an unverified target, why it was not."""
    where: Annotated[str | None, Mark.ABSENT] = None
    """The device or simulator, with versions; None where nothing was run."""

    def __str__(self) -> str:
        place = f" on {self.where}" if self.where else ""
        return f"{self.state.value}{place}: {self.what}"

    def to_json(self) -> dict[str, str | None]:
        """Plain JSON types."""
        raw: dict[str, str | None] = plain.of(self)
        return raw


@dataclasses.dataclass(frozen=True)
class PredictedLatency:
    """INT8 latency against float on a device where nobody measured it, as a model of the device gives it."""

    device: str
    """The board or phone, its processor and clock."""
    model: str
    """Whose files were weighed."""
    threads: Annotated[int, Within(1, 1024)]
    ratio: Annotated[float, Within(0, 100)]
    """1 is as fast as float, less is faster."""
    least: Annotated[float, Within(0, 100)]
    most: Annotated[float, Within(0, 100)]
    """The error band, from predictions of what others measured."""
    how: str
    """What it rests on, and the file of figures."""

    def __str__(self) -> str:
        count = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return (
            f"{self.ratio:.2f} of float's latency ({self.least:.2f} to {self.most:.2f}), "
            f"predicted and not measured: {self.model} on {self.device}, {count}; {self.how}"
        )


class Arithmetic(enum.Enum):
    """How a device adds up integer products; a plan of INT8 weights is made for one of them."""

    EXACT = "exact"  # every product in int32: weights may use all eight bits
    SATURATING = (
        "saturating"  # pairs of uint8 x int8 products in int16: reduced range where they could overflow
    )
    INTEGER = "integer"  # exact, and no operator is left in floating point


@dataclasses.dataclass(frozen=True)
class TargetSpec:
    """What a class of devices can do, and which form of the model suits it; read from one TOML file."""

    name: str
    title: str
    """For a heading."""
    description: str
    """One or two sentences."""
    provider: ProviderSpec
    form: ModelForm
    """Its keys stand in the table itself; a fixed batch is one image."""
    weight_type: str
    """Always "int8"."""
    weight_bits: int
    """8, 7 or 4, of every layer."""
    per_channel: bool
    """One weight scale per output channel."""
    saturating: bool
    """May run where pairs of uint8 x int8 products are added in int16, which can overflow."""
    quantized_operators: QuantizedOperators
    row_scales: bool
    """May a layer's activations have one scale per row (token), measured at run time."""
    wide_macs: float
    """Share of the multiply-adds, 0 to 1, that may read activations of 16 bits where the file has them, or
    stay in half precision where the provider's compiler quantizes; those that lose most by 8 bits do."""
    session_options: tuple[tuple[str, str], ...]
    """Onnxruntime session config entries."""
    requires: Requirements
    priority: int
    """Among the targets that fit a machine the highest is taken; 0: only where it is named."""
    verification: tuple[Verification, ...]
    predicted: tuple[PredictedLatency, ...] = ()
    """Apart from what was verified, and never in its place."""

    @property
    def arithmetic(self) -> Arithmetic:
        """What its weights must be made for."""
        if self.quantized_operators is QuantizedOperators.ALL:
            return Arithmetic.INTEGER
        return Arithmetic.SATURATING if self.saturating else Arithmetic.EXACT

    @property
    def file(self) -> tuple[object, ...]:
        """Everything that its file depends on: targets that agree in it share one."""
        made = self.weight_type, self.weight_bits, self.per_channel, self.saturating
        operators = self.quantized_operators, self.row_scales, self.wide_macs
        return self.form, *made, *operators, self.session_options

    @property
    def quantized_by_compiler(self) -> bool:
        """Whether the provider's compiler quantizes the float file, by types and ranges beside it."""
        return self.quantized_operators is QuantizedOperators.NONE and self.wide_macs < 1.0

    @property
    def integer_attention(self) -> bool:
        """Whether the two matrix products of attention are integer."""
        return self.quantized_operators in (QuantizedOperators.PRODUCTS, QuantizedOperators.ALL)
