"""Benchmarks whose result is given, so that no test depends on what this machine measures."""

from collections.abc import Callable, Sequence

import numpy as np

from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure.benchmark import BenchEntry, BenchReport, BenchSettings
from vit_edge.runtime.measure.timing import latency, ratios_to_first
from vit_edge.runtime.model.file import ModelFile


def timed_as(
    ratio: Callable[[ModelFile], float],
) -> Callable[[Sequence[ModelFile], BenchSettings], BenchReport]:
    """A benchmark that finds float to take 1 ms, and each other model what `ratio` says of it."""

    def bench(models: Sequence[ModelFile], settings: BenchSettings) -> BenchReport:
        row = [1.0, *(ratio(model) for model in models[1:])]
        times = np.tile(row, (30, 1))
        entries = tuple(
            BenchEntry(
                path=str(model.path),
                providers=("CPUExecutionProvider",),
                threads=1,
                batch=settings.batch,
                latency=latency(times[:, i]),
                peak_rss_mb=None,
                size_mb=len(model.data) / 1e6,
            )
            for i, model in enumerate(models)
        )
        return BenchReport(entries, describe_machine(), tuple(ratios_to_first(times)), times)

    return bench


FASTER, SLOWER = timed_as(lambda _: 0.5), timed_as(lambda _: 1.5)
