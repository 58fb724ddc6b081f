"""The form of a model file: batch, input, number formats, words of the graph, versions."""

import dataclasses
import enum
from typing import Self

from vit_edge.errors import UsageError
from vit_edge.fields import settle_members


class ActivationType(enum.Enum):
    """Integer type of quantized activations."""

    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"


class InputForm(enum.Enum):
    """What a model file takes; the value is the name of its input."""

    PIXEL_VALUES = "pixel_values"  # float32 (N, 3, H, W), normalised
    PIXELS = "pixels"  # uint8 (N, H, W, 3), as decoded


class Batch(enum.Enum):
    """Whether the batch size of a model file is free."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"


class FloatType(enum.Enum):
    """Type of what is not quantized."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class GraphStyle(enum.Enum):
    """For which reader the INT8 graph is written; the numbers are the same, but for a compiler's queries."""

    KERNELS = "kernels"  # onnxruntime's own: flat token stream, uint8 queries, keys transposed as integers
    CODES = "codes"  # as kernels, and queries, keys and values leave their one product as codes
    COMPILER = "compiler"  # an engine that fuses by itself: token stream per image, signed queries and keys
    NATIVE = "native"  # the operators of vit-edge-kernels, in place of most of onnxruntime's


KERNELS_DOMAIN = "vit_edge.kernels"  # of those operators
KERNELS_PACKAGE = "vit-edge-kernels"  # that brings them


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
