"""What the manifest records of files, of the source, of layers and of what was timed."""

import dataclasses
import enum
import hashlib
from typing import Annotated, Any, Self

from vit_edge import fields, plain
from vit_edge.plain import Mark, Within


class Role(enum.Enum):
    """What a file in a bundle is for."""

    FLOAT = "float"  # model: float32
    QUANTIZED = "quantized"  # model: portable INT8
    LOWERED = "lowered"  # model: for one target
    EMBEDDER_FLOAT = "embedder_float"  # embeddings instead of logits: float32
    EMBEDDER = "embedder"  # embeddings instead of logits: portable INT8
    COMPILED = "compiled"  # what the compiler of a target made of its model
    CONFIG = "config"
    GOLDEN = "golden"  # input or expected output of the self-test
    DOCUMENT = "document"


MODEL_ROLES = (Role.FLOAT, Role.QUANTIZED, Role.LOWERED)  # classifiers, one of which runs by default
EMBEDDER_ROLES = (Role.EMBEDDER, Role.EMBEDDER_FLOAT)


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """What the manifest records of one file."""

    sha256: Annotated[str, Mark.SHA256]
    """64 lower-case hexadecimal digits."""
    size: Annotated[int, Within(0, 2**31)]
    """In bytes."""
    role: Role

    def __post_init__(self) -> None:
        """Refuse a role that there is not."""
        fields.settle_members(self)

    @classmethod
    def of(cls, data: bytes, role: Role) -> Self:
        """The entry of these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), len(data), role)


@dataclasses.dataclass(frozen=True)
class SourceRecord:
    """The checkpoint that a bundle was built from."""

    name: str
    sha256: Annotated[str, Mark.SHA256]
    notes: Annotated[tuple[str, ...], Mark.ABSENT] = ()
    """What it leaves open and was decided where the bundle was built, in sentences."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that figures were taken on."""

    cpu: str
    cores: int
    """Logical cores that the process could use."""
    flags: tuple[str, ...]
    """Instruction sets that decide which integer kernel runs; empty where the system does not tell."""
    system: str
    python: str
    onnxruntime: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        raw: dict[str, Any] = plain.of(self)
        return raw


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyRecord:
    """One model as it was timed; all of a bundle's are timed in turn, in one process."""

    path: str
    """Of the model in the bundle."""
    providers: tuple[str, ...]
    """Execution providers that the session really used."""
    threads: int | None
    """None: left to onnxruntime, which takes one per physical core."""
    batch: int
    """Images per run."""
    min_ms: float
    """Per run, from uint8 pixels to logits."""
    median_ms: float
    p95_ms: float
    peak_rss_mb: float | None
    """10^6 bytes; None where the system keeps no such figure."""
    size_mb: float
    """10^6 bytes of the file."""
    ratio_to_float: float
    """Median over rounds of the latency in units of the float model's in the same round."""
    timed_on_its_device: bool
    """False: on a machine of another kind than the file is for."""
    machine: str
    """The processor's name."""
    environment: Machine | None
    """None where it was not described."""
    ratio_interval: Annotated[tuple[float, float] | None, Mark.ABSENT] = None
    """95 % interval of `ratio_to_float`; None where there were too few rounds for one."""


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """What was decided for one layer, and why."""

    name: str
    form: str
    """`int8`, `int8_row`, `int8_fine` (two codes), `int8_a16` (of 16 bits), `float32`, or `tanh` of GELU."""
    sensitivity_db: float | None = None
    """Signal to noise of the logits with this layer alone quantized by one static range, in dB."""
    reason: str = ""
    static_range: str | None = None
    """The method that found its range."""


@dataclasses.dataclass(frozen=True)
class OperatorTime:
    """All kernels of one operator on one execution provider, after onnxruntime's fusions."""

    operator: str
    provider: str
    kernels: int
    """Per run."""
    ms: float
    """Per run, all kernels together; median over runs."""
    share: float
    """Of the time in all kernels, 0 to 1."""
