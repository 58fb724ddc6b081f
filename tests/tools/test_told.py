"""What a tool does around its measurement."""

from pathlib import Path
from typing import Any

import pytest

from tools.told import told
from vit_edge.errors import UsageError


def test_results_are_written_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(lambda: {"rows": 2}, tmp_path / "out.json", lambda result: f"{result['rows']} rows") == 0
    assert capsys.readouterr().out == "2 rows\n"
    assert '"rows": 2' in (tmp_path / "out.json").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def never() -> dict[str, Any]:
        raise AssertionError("measured")

    assert told(never, tmp_path / "no" / "such" / "out.json", str) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_what_is_wrong_with_the_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> dict[str, Any]:
        raise UsageError("x.onnx: no such file; name another")

    assert told(refused, None, str) == 2
    assert capsys.readouterr().err == "error: x.onnx: no such file; name another\n"
