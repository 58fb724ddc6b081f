"""The settings that travel between layers: small frozen dataclasses and enums, nothing else.

A spec is materialised once from raw input (JSON, TOML, command line) by a strict reader that refuses unknown
keys and wrong types, and from then on it is only read.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any, Self

from vit_edge import plain
from vit_edge.errors import UsageError
from vit_edge.fields import settle_members, shown
from vit_edge.plain import Mark

# Of values in [0, 1]; what lies beyond is a mistake, and an absurd one may overflow or lose every digit.
_LEAST_DEVIATION = 1e-6
_MOST_STATISTIC = 1000


class Interpolation(enum.Enum):
    """Resampling filter of the resize; the value is Pillow's name for it in lower case."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class ResizeMode(enum.Enum):
    """How an image of any size becomes one from which the crop is taken."""

    NONE = "none"  # crop only
    SHORT_SIDE = "short_side"  # keep the aspect ratio, short side to resize[0]
    EXACT = "exact"  # to exactly (height, width), aspect ratio given up
    COVER = "cover"  # keep the aspect ratio, as small as still covers (height, width)


class CropRule(enum.Enum):
    """Where a centre crop lies if the margin is odd, and where the image lies in a crop that is larger."""

    TORCHVISION = "torchvision"  # half the margin, half to even; the smaller half of a padding comes first
    TRANSFORMERS = "transformers"  # Pillow-backed: half the margin, down; the larger half comes first
    TRANSFORMERS_FAST = "transformers_fast"  # torchvision-backed: half the margin, down; the smaller first


@dataclasses.dataclass(frozen=True)
class PreprocessSpec:
    """The resolved, numeric recipe from a decoded RGB image to the model's input.

    Resize (on uint8), centre crop to (height, width), then `(pixel / 255 - mean) / std` per RGB channel.
    A crop larger than the resized image pads with black, as Hugging Face and torchvision do. A written recipe
    that names no crop rule means torchvision's, as it did before there was a choice.
    """

    height: int
    """Pixels, what the model sees."""
    width: int
    resize_mode: ResizeMode
    resize: tuple[int, int]
    """Pixels (height, width); for SHORT_SIDE both are the length of the short side."""
    interpolation: Interpolation
    mean: tuple[float, float, float]
    """RGB, of values in [0, 1]."""
    std: tuple[float, float, float]
    crop: Annotated[CropRule, Mark.ABSENT] = CropRule.TORCHVISION

    def __post_init__(self) -> None:
        """Refuse sizes and statistics that no image can have."""
        settle_members(self)
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"preprocess {name} must be 1 to 4096 pixels, got {getattr(self, name)}")
        if not all(1 <= side <= 8192 for side in self.resize):
            raise ValueError(f"preprocess resize must be 1 to 8192 pixels, got {self.resize}")
        if self.resize_mode is ResizeMode.SHORT_SIDE and self.resize[0] != self.resize[1]:
            raise ValueError(f"preprocess resize must be (side, side) for short_side, got {self.resize}")
        if not all(_LEAST_DEVIATION <= deviation <= _MOST_STATISTIC for deviation in self.std):
            raise ValueError(
                f"preprocess std must be positive, from {_LEAST_DEVIATION} to {_MOST_STATISTIC}, "
                f"got {self.std}"
            )
        if not all(abs(mean) <= _MOST_STATISTIC for mean in self.mean):
            raise ValueError(
                f"preprocess mean must be from {-_MOST_STATISTIC} to {_MOST_STATISTIC}, got {self.mean}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the form kept in the manifest and in an ONNX file's metadata_props."""
        raw: dict[str, Any] = plain.of(self)
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: an unknown or missing key, or a value of the wrong type; the message names the key.
        """
        return plain.read(cls, raw, "preprocess")


class ActivationType(enum.Enum):
    """Integer type of quantized activations."""

    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"


class QuantizedOperators(enum.Enum):
    """Which operators become integer."""

    NONE = "none"  # the model stays in its float type
    LINEAR = "linear"  # linear layers and the patch embedding
    PRODUCTS = "products"  # and the two matrix products of attention
    ALL = "all"  # everything, as an accelerator without floating point wants it


class InputForm(enum.Enum):
    """What a model file takes; the value is the name of its input."""

    PIXEL_VALUES = "pixel_values"  # float32 (N, 3, H, W), normalised
    PIXELS = "pixels"  # uint8 (N, H, W, 3), as decoded


# The names of a model file's outputs: one of a classifier, two or three of an embedder.
LOGITS = "logits"  # float32 (N, C)
CLS_EMBEDDING = "cls_embedding"  # float32 (N, D), where a class token stands for the whole image
POOLED_EMBEDDING = "pooled_embedding"  # float32 (N, D)
PATCH_FEATURES = "patch_features"  # float32 (N, rows, columns, D)


class OutputKind(enum.Enum):
    """What the numbers mean that a classifier gives for an image; the value is kept in metadata and manifest.

    Files that we write hold logits: a final Softmax or Sigmoid is taken off, and the kind says how it is made
    good. Probabilities come from files of other makers.
    """

    SINGLE_LABEL = "single_label_logits"  # one of C classes, by softmax
    SINGLE_LABEL_PROBABILITIES = "single_label_probabilities"  # the same behind its softmax
    MULTI_LABEL = "multi_label_logits"  # each of C labels or not, by sigmoid
    MULTI_LABEL_PROBABILITIES = "multi_label_probabilities"  # the same behind its sigmoid
    BINARY = "binary_logit"  # one number z, by sigmoid: the same answers as two classes of logits 0 and z
    BINARY_PROBABILITY = "binary_probability"  # the same behind its sigmoid
    REGRESSION = "regression"  # the values themselves

    @property
    def logits(self) -> "OutputKind":
        """The kind of the numbers before a final Softmax or Sigmoid; itself where there is none."""
        return _BEFORE_ACTIVATION.get(self, self)

    @property
    def task(self) -> "OutputKind":
        """SINGLE_LABEL, MULTI_LABEL or REGRESSION: one logit asks what two classes ask."""
        return OutputKind.SINGLE_LABEL if self.logits is OutputKind.BINARY else self.logits

    def answers(self, values: int) -> int:
        """How many labels belong to so many numbers per image."""
        return 2 if self.logits is OutputKind.BINARY else values


_BEFORE_ACTIVATION = {
    OutputKind.SINGLE_LABEL_PROBABILITIES: OutputKind.SINGLE_LABEL,
    OutputKind.MULTI_LABEL_PROBABILITIES: OutputKind.MULTI_LABEL,
    OutputKind.BINARY_PROBABILITY: OutputKind.BINARY,
}


class Batch(enum.Enum):
    """Whether the batch size of a model file is free."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"


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


class FloatType(enum.Enum):
    """Type of what is not quantized."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class GraphStyle(enum.Enum):
    """For which reader the INT8 graph is written; the numbers are the same, but for queries."""

    KERNELS = "kernels"  # onnxruntime's own: flat token stream, uint8 queries, keys transposed as integers
    COMPILER = "compiler"  # an engine that fuses by itself: token stream per image, signed queries and keys


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
    weight_bits: tuple[int, ...]
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
            return f"it is part of {self.package}, not of a Python wheel"
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
    where: str | None
    """The device or simulator, with versions; None where nothing was run."""

    def __str__(self) -> str:
        place = f" on {self.where}" if self.where else ""
        return f"{self.state.value}{place}: {self.what}"

    def to_json(self) -> dict[str, str | None]:
        """Plain JSON types."""
        raw: dict[str, str | None] = plain.of(self)
        return raw


class Arithmetic(enum.Enum):
    """How a device adds up integer products; a plan of INT8 weights is made for one of them."""

    EXACT = "exact"  # every product in int32: weights may use all eight bits
    SATURATING = (
        "saturating"  # pairs of uint8 x int8 products in int16: reduced range where they could overflow
    )
    INTEGER = "integer"  # exact, and no operator is left in floating point


OPSETS = range(17, 24)  # LayerNormalization came with 17; 23 is the newest that was tried
IR_VERSIONS = range(8, 12)  # 8 is that of opset 17's time, 11 that of opset 23's
_IR_OF_OPSET = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}  # of the ONNX release it came with


@dataclasses.dataclass(frozen=True)
class OnnxVersions:
    """What an ONNX file says that its reader must know.

    Raises:
        ValueError: an opset outside OPSETS, or an IR version outside IR_VERSIONS.
    """

    opset: int
    """Of the standard operators."""
    ir: int
    """Of the file format."""

    def __post_init__(self) -> None:
        """Refuse what no file of ours can be."""
        for name, value, known in (("opset", self.opset, OPSETS), ("ir", self.ir, IR_VERSIONS)):
            if value not in known:
                raise ValueError(f"{name} must be {known[0]} to {known[-1]}, got {value}")


@dataclasses.dataclass(frozen=True)
class VersionsWanted:
    """What somebody asks of a file's versions; None leaves one as it is.

    Raises:
        ValueError: an opset outside OPSETS, or an IR version outside IR_VERSIONS.
    """

    opset: int | None = None
    ir: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no file of ours can be."""
        OnnxVersions(
            OPSETS[0] if self.opset is None else self.opset, IR_VERSIONS[0] if self.ir is None else self.ir
        )

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self != VersionsWanted()

    def over(self, default: OnnxVersions) -> OnnxVersions:
        """What was asked for; the IR version of a stated opset is by default the oldest of its time."""
        opset = default.opset if self.opset is None else self.opset
        oldest = default.ir if self.opset is None else _IR_OF_OPSET[opset]
        return OnnxVersions(opset, oldest if self.ir is None else self.ir)


AS_WRITTEN = VersionsWanted()

# What graphs are written at: opset 20 is the newest whose int8 graphs every execution provider of interest
# loads, and has Gelu and LayerNormalization; 9 is the oldest IR version that it came with (onnxruntime 1.17).
WRITTEN = OnnxVersions(20, 9)
MAX_BATCH = 1024  # of a file that fixes it


def check_batch(batch: int | None) -> None:
    """Refuse a batch that no file can have; None is a dynamic one.

    Raises:
        UsageError: below 1 or above MAX_BATCH.
    """
    if batch is not None and not 1 <= batch <= MAX_BATCH:
        raise UsageError(f"batch must be 1 to {MAX_BATCH}, got {batch}")


@dataclasses.dataclass(frozen=True)
class ModelForm:
    """The form of a model file: what it takes and gives, and in which number formats and words.

    Raises:
        UsageError: a batch that no file can have.
    """

    batch: int | None = None
    """Images that it takes at once; None: any number."""
    input: InputForm = InputForm.PIXEL_VALUES
    activations: ActivationType = ActivationType.UINT8
    """Type of what goes into INT8 layers."""
    symmetric: bool = False
    """Every activation range is centred on zero: int8 with zero point 0."""
    style: GraphStyle = GraphStyle.KERNELS
    float_type: FloatType = FloatType.FLOAT32
    """Of what is not INT8; inputs and outputs stay as they are."""
    versions: OnnxVersions = WRITTEN

    def __post_init__(self) -> None:
        """Refuse a batch that no file can have."""
        settle_members(self)
        check_batch(self.batch)

    @property
    def sizes(self) -> Batch:
        """Whether the batch is free."""
        return Batch.DYNAMIC if self.batch is None else Batch.FIXED

    def at(self, versions: VersionsWanted) -> Self:
        """The same form in a file of the versions that were asked for."""
        return dataclasses.replace(self, versions=versions.over(self.versions))


PORTABLE = ModelForm()


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
    session_options: tuple[tuple[str, str], ...]
    """Onnxruntime session config entries."""
    requires: Requirements
    priority: int
    """Among the targets that fit a machine the highest is taken; 0: only where it is named."""
    verification: tuple[Verification, ...]

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
        return self.form, *made, self.quantized_operators, self.row_scales, self.session_options

    @property
    def integer_attention(self) -> bool:
        """Whether the two matrix products of attention are integer."""
        return self.quantized_operators in (QuantizedOperators.PRODUCTS, QuantizedOperators.ALL)


class Verdict(enum.Enum):
    """What the images can show about a drop; the value is the word that is printed."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What the gate accepts."""

    max_drop: float = 1.0
    """Points of top-1."""
    confidence: float = 0.95
    max_changed: float = 3.0
    """Percent of predictions that may change, where no labels tell the drop."""

    def __post_init__(self) -> None:
        """Refuse a tolerance that no gate could apply."""
        if not 0 < self.max_drop <= 100:
            raise ValueError(f"max_drop must be above 0 and at most 100 points, got {self.max_drop}")
        if not 0 < self.max_changed <= 100:
            raise ValueError(f"max_changed must be above 0 and at most 100 percent, got {self.max_changed}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0.5 and 1, got {self.confidence}")
