"""The comparison of ways to spread a model over threads; how fast any is, is not tested."""

import json
from pathlib import Path

import pytest

from tools.bench_threads import line, main

MODEL = Path(__file__).parent.parent / "data" / "dynamic.onnx"


def test_every_case_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "threads.json"
    main(["--model", str(MODEL), "--busy", "0", "1", "--rounds", "3", "--json", str(out)])
    cases = json.loads(out.read_text())["cases"]
    assert [case["busy"] for case in cases] == [0, 1]
    for case in cases:
        assert list(case["ways"]) == ["onnxruntime", "default", "one thread", "auto"]
        assert case["ways"]["onnxruntime"]["ratio"] == 1
        assert all(way["ratio"] > 0 for way in case["ways"].values())
        assert case["ways"]["one thread"]["threads"] == 1
    printed = capsys.readouterr().out
    assert "0 cores busy: onnxruntime" in printed
    assert "1 cores busy: onnxruntime" in printed


@pytest.mark.parametrize(
    ("threads", "spinning", "words"),
    [
        (None, None, "auto 2.00 ms, ratio 1.00"),
        (1, None, "auto (1 threads) 2.00 ms"),
        (2, False, "auto (2 threads, not spinning) 2.00 ms"),
    ],
)
def test_the_choice_is_told(threads: int | None, spinning: bool | None, words: str) -> None:
    times = {"min_ms": 1.0, "median_ms": 2.0, "p95_ms": 3.0, "ratio": 1.0, "quartiles": (0.9, 1.1)}
    found = {"busy": 0, "ways": {"auto": times | {"threads": threads, "spinning": spinning}}}
    assert words in line(found)
