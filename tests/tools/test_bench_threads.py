"""The comparison of threads="auto" with the default; how fast either is, is not tested."""

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
    assert all(case["ratio"] > 0 for case in cases)
    printed = capsys.readouterr().out
    assert "0 cores busy: default" in printed
    assert "1 cores busy: default" in printed


@pytest.mark.parametrize(
    ("threads", "spinning", "words"),
    [
        (None, None, "auto (default)"),
        (1, None, "auto (1 threads)"),
        (2, False, "auto (2 threads, not spinning)"),
    ],
)
def test_the_choice_is_told(threads: int | None, spinning: bool | None, words: str) -> None:
    times = {"min_ms": 1.0, "median_ms": 2.0, "p95_ms": 3.0}
    found = {"busy": 0, "threads": threads, "spinning": spinning, "default": times, "auto": times}
    assert words in line(found | {"ratio": 1.0, "quartiles": (0.9, 1.1)})
