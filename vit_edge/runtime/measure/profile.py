"""Where a model's time goes, operator by operator, from onnxruntime's own profiler."""

import bisect
import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_edge.errors import ModelError
from vit_edge.files import scratch_folder
from vit_edge.manifest import OperatorTime
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import DEFAULT_SETTINGS, Session, SessionSettings

WARM_UP_RUNS = 3
RUNS = 20
_KERNEL = "_kernel_time"  # how onnxruntime ends the name of an event that is one run of one kernel
_RUN = "model_run"


def profile(
    model: ModelFile, settings: SessionSettings = DEFAULT_SETTINGS, runs: int = RUNS
) -> tuple[OperatorTime, ...]:
    """Run the model on random pixels and add up the time of each operator's kernels.

    Recording takes time of its own, so the sum is somewhat more than the latency that `bench` finds. A
    provider that compiles its part of the graph shows that part as one operator.

    Args:
        model: with preprocessing and of known size.
        settings: how to run it.
        runs: recorded runs of one image, after a few that are not.

    Returns:
        One entry per operator and provider, the slowest first.

    Raises:
        ModelError: the model cannot be loaded or run, or its image size is not known.
    """
    if model.input_size is None:
        raise ModelError(f"{model.path} does not say its image size; export it with a fixed size")
    pixels = random_pixels(1, model.input_size)
    with scratch_folder() as folder:
        session = Session(model, dataclasses.replace(settings, trace=folder / "trace"))
        for _ in range(WARM_UP_RUNS + runs):
            session.outputs(pixels)
        events = json.loads(session.end_trace().read_text(encoding="utf-8"))
    return operator_times(events, runs)


def operator_times(events: Sequence[Mapping[str, Any]], runs: int) -> tuple[OperatorTime, ...]:
    """Sums per operator of onnxruntime's trace events, over the last `runs` runs.

    Args:
        events: Chrome trace events, times in microseconds.
        runs: how many of the recorded runs count; those before them are warm-up.

    Returns:
        The slowest first.

    Raises:
        ModelError: the trace holds fewer runs.
    """
    recorded = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == _RUN)
    counted = recorded[-runs:]
    if len(counted) < runs:
        raise ModelError(f"onnxruntime recorded {len(recorded)} of {runs} runs; profile fewer runs")
    starts = [start for start, _ in counted]
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * runs)
    kernels: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        run = bisect.bisect_right(starts, event["ts"]) - 1
        if not event["name"].endswith(_KERNEL) or run < 0 or event["ts"] > counted[run][1]:
            continue
        key = event["args"]["op_name"], event["args"].get("provider", "")
        sums[key][run] += event["dur"] / 1000.0
        kernels[key] += 1
    medians = {key: float(np.median(times)) for key, times in sums.items()}
    total = sum(medians.values()) or 1.0
    return tuple(
        OperatorTime(operator, provider, round(kernels[operator, provider] / runs), ms, ms / total)
        for (operator, provider), ms in sorted(medians.items(), key=lambda item: -item[1])
    )
