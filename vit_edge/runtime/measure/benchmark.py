"""Benchmark models side by side: latency, peak memory, size, and the machine they were taken on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from vit_edge import plain
from vit_edge.errors import ModelError, UsageError
from vit_edge.manifest import Machine
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.memory import MemoryRequest, peak_rss_mb
from vit_edge.runtime.measure.timing import (
    Latency,
    Milliseconds,
    Ratio,
    Rounds,
    latency,
    ratios_to_first,
    time_interleaved,
)
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode


@dataclasses.dataclass(frozen=True)
class BenchSettings:
    """How to run the models."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    batch: int = 1
    rounds: Rounds = dataclasses.field(default_factory=Rounds)
    seed: int = 0  # of the random pixels

    def __post_init__(self) -> None:
        """Refuse a batch that no run could have."""
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, got {self.batch}")


@dataclasses.dataclass(frozen=True)
class BenchEntry:
    """One model's figures; a run is one batch from uint8 pixels to logits, normalisation included."""

    path: str
    providers: tuple[str, ...]  # that the session really uses
    threads: int | None  # None: left to onnxruntime, which takes one per physical core
    batch: int
    latency: Latency
    peak_rss_mb: float | None  # None where the system keeps no such figure
    size_mb: float  # 10^6 bytes

    def to_json(self) -> dict[str, Any]:
        """The stable keys of one entry of `models`."""
        return {
            "path": self.path,
            "providers": list(self.providers),
            "threads": self.threads,
            "batch": self.batch,
            **dataclasses.asdict(self.latency),
            "peak_rss_mb": self.peak_rss_mb,
            "size_mb": self.size_mb,
        }


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """All models' figures, taken in one process in interleaved rounds."""

    models: tuple[BenchEntry, ...]
    machine: Machine
    ratios: tuple[Ratio, ...]  # latency in units of the first model's
    times: Milliseconds = dataclasses.field(repr=False, compare=False)  # (rounds, models), as they were taken

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge bench --json`; ratios and their 95 % intervals from two models on."""
        report: dict[str, Any] = {
            "models": [entry.to_json() for entry in self.models],
            "machine": self.machine.to_json(),
        }
        if len(self.models) > 1:
            report["ratio_to_first"] = [ratio.median for ratio in self.ratios]
            report["ratio_intervals"] = [plain.of(ratio.interval) for ratio in self.ratios]
        return report


def bench(models: Sequence[ModelFile], settings: BenchSettings | None = None) -> BenchReport:
    """Time the models against each other on random pixels and measure each one's memory on its own.

    Args:
        models: what to time; ratios refer to the first.
        settings: how.

    Raises:
        UsageError: there is no model.
        ModelError: a model cannot be loaded or run.
    """
    if not models:
        raise UsageError("there is no model to time; give at least one")
    settings = settings or BenchSettings()
    prepared = [_with_preprocess(model) for model in models]
    sessions = [Session(model, settings.session) for model, _ in prepared]
    runs = [_run(session, spec, settings) for session, (_, spec) in zip(sessions, prepared, strict=True)]
    times = time_interleaved(runs, settings.rounds)
    entries = []
    for column, (session, (model, spec)) in enumerate(zip(sessions, prepared, strict=True)):
        request = MemoryRequest(str(model.path), spec, session.settings, settings.batch)
        entries.append(
            BenchEntry(
                path=str(model.path),
                providers=_providers(session),
                threads=session.threads,
                batch=settings.batch,
                latency=latency(times[:, column]),
                peak_rss_mb=peak_rss_mb(request),
                size_mb=len(model.data) / 1e6,
            )
        )
    return BenchReport(tuple(entries), describe_machine(), tuple(ratios_to_first(times)), times)


def _with_preprocess(model: ModelFile) -> tuple[ModelFile, PreprocessSpec]:
    """The model with preprocessing to run by; a plain one where it carries none, as the pixels are random."""
    if model.preprocess is not None:
        return model, model.preprocess
    if model.size is None:
        raise ModelError(
            f"{model.path} says neither its image size nor its preprocessing; export it with a fixed size"
        )
    height, width = model.size
    half = (0.5, 0.5, 0.5)
    spec = PreprocessSpec(height, width, ResizeMode.NONE, model.size, Interpolation.BILINEAR, half, half)
    return dataclasses.replace(model, preprocess=spec), spec


def _providers(session: Session) -> tuple[str, ...]:
    """Those that run a part of the graph, or the session's first where onnxruntime does not record that."""
    placed = tuple(name for name, _ in session.placement.shares)
    return placed or (session.placement.provider,)


def _run(session: Session, spec: PreprocessSpec, settings: BenchSettings) -> Callable[[], object]:
    pixels = random_pixels(settings.batch, (spec.height, spec.width), settings.seed)
    return lambda: session.outputs(pixels)
