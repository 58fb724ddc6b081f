"""Environments of other quantizers: made once, weighed, or not there for a reason; without network."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tools.peers.environments import Environment, prepare
from vit_edge.errors import UsageError


def linked(place: Path, packages: Sequence[str]) -> None:
    """In place of pip: an environment that is this Python."""
    assert packages
    (place / "bin").mkdir()
    (place / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (place / "bin" / "python").chmod(0o755)


def test_an_environment_is_made_once_for_the_same_packages(tmp_path: Path) -> None:
    calls: list[Sequence[str]] = []

    def make(place: Path, packages: Sequence[str]) -> None:
        calls.append(packages)
        linked(place, packages)

    first = Environment("peer", ("peer[onnx]==1.0",), "json")
    found = [prepare(first, tmp_path, make) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].reason is None
    assert found[0].import_cpu_s is not None
    assert found[0].import_cpu_s > 0
    assert found[0].size_mb > 0
    assert "numpy" in found[0].of_named()
    assert "pytest" not in found[0].of_named()
    for other in (
        Environment("peer", ("peer==2.0",), "json"),
        Environment("peer", ("peer==2.0",), "json", "a"),
    ):
        prepare(other, tmp_path, make)
    assert calls == [("peer[onnx]==1.0",), ("peer==2.0",), ("peer==2.0",)]


def test_what_cannot_be_installed_says_why_and_is_not_tried_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def make(place: Path, packages: Sequence[str]) -> None:
        assert place.is_dir()
        calls.append(1)
        raise UsageError(f"python failed with status 1: No matching distribution found for {packages[0]}")

    for _ in range(2):
        found = prepare(Environment("peer", ("peer==9",), "peer"), tmp_path, make)
        assert found.reason == "python failed with status 1: No matching distribution found for peer==9"
    assert calls == [1]


def test_what_cannot_be_imported_is_not_there(tmp_path: Path) -> None:
    found = prepare(Environment("peer", ("peer==1",), "no_such_module_of_anybody"), tmp_path, linked)
    assert found.reason is not None
    assert "No module named 'no_such_module_of_anybody'" in found.reason
