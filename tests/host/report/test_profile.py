"""Time per operator, from made-up traces and from a real one."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from tests.host.report.models import SPEC, constants, float_nodes, model, qdq_nodes, weights
from vit_edge.errors import ModelError
from vit_edge.runtime.measure.profile import operator_times, profile
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import SessionSettings

Event = dict[str, Any]


def run(start: int, **kernels: int) -> list[Event]:
    """One run of 100 us, with the kernels' times in us."""
    inside = [
        {
            "name": f"{operator}_kernel_time",
            "ts": start + 1 + place,
            "dur": time,
            "args": {"op_name": operator.split("_")[0], "provider": "CPUExecutionProvider"},
        }
        for place, (operator, time) in enumerate(kernels.items())
    ]
    return [{"name": "model_run", "ts": start, "dur": 100}, *inside]


def test_kernels_of_one_operator_are_added_and_the_median_run_counts() -> None:
    events = [
        *run(0, Gemm=9_000, Add=9_000),  # warm-up
        *run(1000, Gemm_1=10, Gemm_2=20, Add=10),
        *run(2000, Gemm_1=10, Gemm_2=22, Add=8),
        *run(3000, Gemm_1=500, Gemm_2=20, Add=9),
    ]
    gemm, add = operator_times(events, 3)
    assert (gemm.operator, gemm.kernels) == ("Gemm", 2)
    assert (add.operator, add.kernels) == ("Add", 1)
    assert (gemm.ms, add.ms) == pytest.approx((0.032, 0.009))
    assert gemm.share == pytest.approx(32 / 41)


def test_events_outside_the_counted_runs_do_not_count() -> None:
    stray = {"name": "Add_kernel_time", "ts": 1500, "dur": 7, "args": {"op_name": "Add"}}
    session = {"name": "session_initialization", "ts": 5, "dur": 50}
    assert [each.operator for each in operator_times([session, *run(1000, Gemm=5), stray], 1)] == ["Gemm"]


def test_a_trace_with_too_few_runs_is_refused() -> None:
    with pytest.raises(ModelError, match="recorded 1 of 2 runs"):
        operator_times(run(0, Gemm=1), 2)


def test_a_real_model_shows_the_operators_that_onnxruntime_runs(data: Path) -> None:
    found = profile(read_model(data / "dynamic.onnx"), SessionSettings("cpu", threads=1), runs=4)
    assert math.fsum(each.share for each in found) == pytest.approx(1)
    assert [each.ms for each in found] == sorted((each.ms for each in found), reverse=True)
    assert all(each.ms > 0 and each.kernels >= 1 for each in found)
    assert {each.provider for each in found} == {"CPUExecutionProvider"}


def test_fusions_show(tmp_path: Path) -> None:
    settings = SessionSettings("cpu", threads=1)
    plain = model(tmp_path, float_nodes(), {"w": weights()}, "float.onnx")
    quantized = model(tmp_path, qdq_nodes(), constants(1 / 255, 0), "int8.onnx")
    operators = [
        {each.operator for each in profile(dataclasses.replace(each, preprocess=SPEC), settings, runs=2)}
        for each in (plain, quantized)
    ]
    assert "MatMul" in operators[0]
    assert "MatMul" not in operators[1]
    assert operators[1] & {"MatMulIntegerToFloat", "QLinearMatMul"}


def test_no_trace_is_left_behind(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile(read_model(data / "dynamic.onnx"), SessionSettings("cpu"), runs=1)
    assert list(tmp_path.iterdir()) == []
