"""What a build is asked for, and what its model files are called."""

import dataclasses
from pathlib import Path

from vit_edge.fields import settle_members
from vit_edge.host.bundling.select import Bench
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.reference.types import Reference
from vit_edge.manifest import Repair
from vit_edge.runtime.measure.benchmark import bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.spec import AS_WRITTEN, EmbeddingTolerance, TargetSpec, Tolerance, VersionsWanted

FLOAT_MODEL = "onnx/model.onnx"
QUANTIZED_MODEL = "onnx/model_quantized.onnx"


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What `build_bundle` is to make, and from which images."""

    calibration: Path
    data: Path | None = None
    """None: every fourth calibration image is held out and checks without labels."""
    truth: Path | None = None
    """True boxes or masks of `data`, of a model of maps."""
    class_ids: Path | None = None
    """One id per class, where the folders of `data` are named so."""
    targets: tuple[TargetSpec, ...] = ()
    """The first is the one that the bundle runs by default."""
    quantize: QuantizeSettings = dataclasses.field(default_factory=QuantizeSettings)
    tolerance: Tolerance = dataclasses.field(default_factory=Tolerance)
    versions: VersionsWanted = AS_WRITTEN
    """Of every model file, in place of the targets' own."""
    allow_uncanonical: bool = False
    merge_tokens: int = 0
    """That become part of others in each block of an INT8 file, where that passes and is faster."""
    embedder: bool = False
    """Whether the bundle gives embeddings, too."""
    taps: tuple[int, ...] = ()
    """Of the embedder: blocks whose patches are outputs, too."""
    embedder_for: tuple[str, ...] = ()
    """Names of the outputs that the INT8 embedder's forms are chosen for; empty: all."""
    embedding_tolerance: EmbeddingTolerance = dataclasses.field(default_factory=EmbeddingTolerance)
    """Of those of INT8."""
    compiler: Path | None = None
    """The interpreter of an environment with the compiler of a target; None: its files are left to it."""
    threads: int | None = None
    """Of the check and of the benchmark; None leaves it to onnxruntime."""
    rounds: Rounds = dataclasses.field(default_factory=Rounds)
    repair: Repair = Repair.AUTO
    expect_top1: float | None = None
    """Percent that the float model must reach."""
    stated_top1: float | None = None
    """Percent that its card states."""
    bench: Bench = bench
    """Times the models."""
    reference: Reference | None = None
    """Answers for the source; None: its own library, where that runs."""

    def __post_init__(self) -> None:
        """Refuse a way to repair that there is not, and fewer than no tokens."""
        settle_members(self)
        if self.merge_tokens < 0:
            raise ValueError(f"merge_tokens must be at least 0, got {self.merge_tokens}")
