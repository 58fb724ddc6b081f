"""The benchmark's report on real, tiny models; never its timings."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.measure import memory
from vit_edge.runtime.measure.benchmark import BenchSettings, bench
from vit_edge.runtime.measure.memory import MemoryRequest, own_peak_rss_mb, peak_rss_mb
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import SessionSettings

ToyModel = Callable[..., ModelFile]
QUICK = BenchSettings(SessionSettings("cpu", threads=1), batch=2, rounds=Rounds(3, 0))
MODEL_KEYS = [
    "path",
    "providers",
    "threads",
    "batch",
    "min_ms",
    "median_ms",
    "p95_ms",
    "peak_rss_mb",
    "size_mb",
]


def request_for(model: ModelFile, path: Path | None = None) -> MemoryRequest:
    assert model.preprocess is not None
    return MemoryRequest(str(path or model.path), model.preprocess, SessionSettings("cpu", threads=1), 1)


def test_the_report_of_two_models_has_the_stable_keys(toy_model: ToyModel) -> None:
    models = [toy_model("a.onnx"), toy_model("b.onnx")]
    report = json.loads(json.dumps(bench(models, QUICK).to_json(), allow_nan=False))
    assert list(report) == ["models", "machine", "ratio_to_first", "ratio_intervals"]
    assert [list(entry) for entry in report["models"]] == [MODEL_KEYS] * 2
    assert report["ratio_to_first"][0] == 1.0
    assert report["ratio_to_first"][1] > 0
    for entry, model in zip(report["models"], models, strict=True):
        assert entry["path"] == str(model.path)
        assert (entry["providers"], entry["threads"], entry["batch"]) == (["CPUExecutionProvider"], 1, 2)
        assert entry["size_mb"] == model.path.stat().st_size / 1e6
        assert 0 < entry["min_ms"] <= entry["median_ms"] <= entry["p95_ms"]


def test_one_model_has_nothing_to_be_compared_with(toy_model: ToyModel) -> None:
    report = bench([toy_model("a.onnx")], QUICK)
    assert list(report.to_json()) == ["models", "machine"]
    assert report.ratios[0].median == 1.0


@pytest.mark.parametrize("preprocess", [True, False])
def test_a_model_runs_with_its_own_preprocessing_or_by_its_size(
    toy_model: ToyModel, preprocess: bool
) -> None:
    model = toy_model("a.onnx") if preprocess else toy_model("a.onnx", preprocess=None)
    assert bench([model], QUICK).models[0].batch == 2


def test_a_model_of_unknown_size_is_refused(toy_model: ToyModel) -> None:
    with pytest.raises(ModelError, match="says neither its image size nor its preprocessing"):
        bench([toy_model("a.onnx", preprocess=None, side="side")], QUICK)


def test_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        bench([], QUICK)


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="batch must be at least 1"):
        BenchSettings(batch=0)


@pytest.mark.skipif(own_peak_rss_mb() is None, reason="this system keeps no peak of resident memory")
def test_memory_is_each_models_own(toy_model: ToyModel) -> None:
    ballast = np.ones(30_000_000)  # 240 MB here must not be counted there
    small = toy_model("small.onnx")
    large = toy_model("large.onnx", np.ones((1_000_000, 3)), labels=None)  # 12 MB of weights
    peaks = [peak_rss_mb(request_for(model)) for model in (large, small)]
    here = own_peak_rss_mb()
    assert peaks[0] is not None
    assert peaks[1] is not None
    assert here is not None
    assert here > ballast.nbytes / 1e6
    assert peaks[1] < here - 100
    assert peaks[0] > peaks[1] + 12


def test_a_request_survives_the_way_to_the_other_process(toy_model: ToyModel) -> None:
    request = request_for(toy_model("a.onnx"))
    settings = SessionSettings(
        provider="cpu",
        provider_options=(("arena_extend_strategy", "kSameAsRequested"),),
        threads=2,
        spinning=False,
        options=(("session.intra_op.allow_spinning", "0"),),
    )
    request = dataclasses.replace(request, session=settings, batch=3)
    assert MemoryRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_a_failure_in_the_other_process_is_reported_with_its_reason(toy_model: ToyModel) -> None:
    request = request_for(toy_model("a.onnx"), Path("gone.onnx"))
    with pytest.raises(
        ModelError, match=r"exit status 1: gone.onnx does not exist.*check that memory suffices"
    ):
        peak_rss_mb(request)


def test_a_process_that_hangs_is_stopped(toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TIME_LIMIT", 0.01)
    with pytest.raises(ModelError, match=r"took more than 0.01 s in a process of its own"):
        peak_rss_mb(request_for(toy_model("a.onnx")))


def test_a_system_without_such_a_figure_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(sys, "platform", "other")
    monkeypatch.setattr(Path, "read_text", absent)
    assert own_peak_rss_mb() is None


def test_this_process_has_a_plausible_peak() -> None:
    peak = own_peak_rss_mb()
    assert peak is None or (math.isfinite(peak) and peak > 10)
