"""What the manifest records of how the INT8 models were made and chosen."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated

from vit_edge.embedding_report import EmbeddingReport, Fidelity
from vit_edge.manifest.records import LayerRecord, OperatorTime
from vit_edge.plain import Mark
from vit_edge.spec import ActivationType, FloatType, Verdict, Verification


class Repair(enum.Enum):
    """Whether a quantization that fails is repaired."""

    AUTO = "auto"
    NEVER = "never"


@dataclasses.dataclass(frozen=True)
class Fold:
    """Scales moved from activations into weights, exactly."""

    where: str
    strength: float
    shifted: bool


@dataclasses.dataclass(frozen=True)
class OutlierChannels:
    """Hidden channels of an MLP that are computed in a branch of their own, exactly."""

    where: str
    """The layer that read them, and now reads the others."""
    channels: tuple[int, ...]
    """Which, from zero."""
    reach_with: float
    """How long the range of that layer's input was with them."""
    reach_without: float
    """And is without."""


@dataclasses.dataclass(frozen=True)
class Narrowed:
    """One operand of reduced range, as with eight bits it could have saturated."""

    columns: int
    """That got fewer steps."""
    of: int
    """Columns in all."""
    steps: int
    """On either side of zero, of the narrowest column; 127 are eight bits, 63 seven."""


@dataclasses.dataclass(frozen=True)
class FileRecipe:
    """What one INT8 file was made for."""

    target: str
    integer_attention: bool
    """Whether the two matrix products of attention are integer."""
    activations: ActivationType
    elsewhere: FloatType
    """The type of what is not integer."""
    narrowed: Mapping[str, Narrowed] | None
    """Operands of reduced range, by the layer's name; None where all have eight bits."""
    verification: tuple[Verification, ...]
    """How it is known that such files run on the target as they should."""
    merged_tokens: Annotated[int, Mark.OMITTED] = 0
    """That become part of others in each block."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """One model that was seen on the way, the float one first."""

    name: str
    target_db: float | None
    """Signal to noise that was aimed at; None of the float model, and where nothing was chosen."""
    probe_db: float | None
    """What was reached on the probe images."""
    forms: Mapping[str, int] | None
    """Form -> how many layers have it."""
    verdict: Verdict | None
    """None of the float model."""
    confidence: float | None
    """That it was judged at."""
    sqnr_db: float | None
    """Of the logits; None where they are identical."""
    top1: float | None
    """Percent; None without labels."""
    agreement: float
    """Percent of images with the float model's answer."""
    top1_drop: float | None
    """Points; None without labels."""
    drop_at_most: float
    """Upper end of the 95 % interval of what is lost."""
    latency_ratio: float
    """Against the float model."""
    size_mb: float
    """10^6 bytes."""
    chosen: bool
    reason: str
    """Why it was or was not chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerGraph:
    """An integer model as onnxruntime runs it."""

    integer_products: int
    float_products: int
    islands: int
    """Float products with an integer product both before and after them."""
    unfused: int
    """DequantizeLinear that no integer kernel has taken in."""
    operators: tuple[OperatorTime, ...]
    """The slowest first."""
    summary: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOutcome:
    """What became of one INT8 file."""

    verdict: Verdict
    kept: str | None
    """The quantization that is in the bundle; None: none is."""
    good_enough: bool
    """To be run rather than the float model."""
    reason: str
    timed_on_its_device: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairRecord:
    """What was chosen of all that was seen, and why."""

    mode: Repair
    looks: int
    """Quantizations that were judged."""
    looks_allowed: int
    confidence_first: float
    confidence_repaired: float | None
    """None where nothing was repaired."""
    chosen: str
    kept: str | None
    """The quantization in the bundle; None: none is."""
    reason: str
    integer_graph: IntegerGraph | None
    """Where integers do not pay: what onnxruntime made of the model."""
    files: Mapping[str, FileOutcome]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergingRecord:
    """Tokens that were asked to merge."""

    count: int
    """In each block."""
    tokens: tuple[int, ...]
    """That would be left behind each block that merges; () where it was not tried."""
    files: Mapping[str, str]
    """What became of it, by the INT8 file's path."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedderRecord:
    """How close the INT8 embedder is to the float one."""

    images: int
    """That the two were compared on; 0 where no INT8 embedder was made."""
    outputs: Mapping[str, Fidelity]
    layers: tuple[LayerRecord, ...]
    report: Annotated[EmbeddingReport | None, Mark.OMITTED] = None
    """The verdict; None where no INT8 embedder was made."""
    left_out: Annotated[str, Mark.OMITTED] = ""
    """Why the INT8 embedder that was made is not in the bundle; empty where it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledRecord:
    """What a target's compiler made of its file, as its own table of layers says."""

    path: str
    """In the bundle."""
    compiler: str
    """With its version."""
    macs_in_8_bits: float
    """Percent of multiply-adds in products that it built in 8 bits throughout."""
    otherwise: tuple[str, ...]
    """Products that it built in other types than asked for, each with those."""
    on_the_cpu: tuple[str, ...]
    """Layers that the accelerator leaves to the CPU."""

    @property
    def summary(self) -> str:
        """In one line."""
        share = f"{self.macs_in_8_bits:.1f} % of multiply-adds in 8 bits"
        other = f"otherwise than asked: {'; '.join(self.otherwise)}"
        left = f"on the CPU {', '.join(self.on_the_cpu)}" if self.on_the_cpu else "no layer on the CPU"
        asked = other if self.otherwise else "every product as asked"
        return f"{self.path}: {self.compiler}, {share}, {asked}, {left}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """How the layers were quantized, whatever the file."""

    preset: str
    calibration_images: int
    probe_images: int
    weights: str
    """How they are coded, in words."""
    activations: str
    """The same."""
    static_ranges: Mapping[str, int]
    """Method -> how many layers took the range that it found."""
    folds: tuple[Fold, ...]
    outliers: Annotated[tuple[OutlierChannels, ...], Mark.OMITTED] = ()
    """Channels taken out of layers whose range they alone decided."""
    target_db: Annotated[float | None, Mark.OMITTED] = None
    """Signal to noise on the logits that was aimed at."""
    integer_macs: Annotated[float | None, Mark.OMITTED] = None
    """Of a model that is only partly a ViT, or none: the share of its products that integers compute."""
    bias_correction: bool
    """Whether it helped on images that it does not see."""
    probe_db: float
    """Signal to noise on the logits of the probe images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the INT8 models were made, and which were seen on the way."""

    method: Annotated[Method, Mark.FLAT]
    models: Mapping[str, FileRecipe]
    """Of every INT8 file in the bundle, by path."""
    pareto: tuple[Seen, ...]
    """Every model that was seen, the float one first."""
    repair: RepairRecord
    merging: Annotated[MergingRecord | None, Mark.OMITTED] = None
    """Where tokens were asked to merge."""
    embedder: Annotated[EmbedderRecord | None, Mark.OMITTED] = None
    """Of a bundle with embedders."""
    compiled: Annotated[tuple[CompiledRecord, ...], Mark.OMITTED] = ()
    """Where the compiler of a target was at hand."""
