"""A short run of every fuzz target, and proof that a crash, a hang and a leak would be found."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.fuzz import drawn, guided
from tools.fuzz.targets import TARGETS, FuzzTarget
from tools.hostile.manifests import manifest
from vit_edge.fields import parse_json
from vit_edge.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_hundred_inputs_find_nothing(name: str) -> None:
    report = drawn.fuzz(name, runs=300, seconds=60)
    assert report.finding is None
    assert report.inputs >= 300


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_accepted_or_refused(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert len(seeds) > 5
    for seed in seeds:
        TARGETS[name].run(seed)


def crash(data: bytes) -> None:
    if len(data) > 20:
        raise KeyError("found")


def hang(data: bytes) -> None:
    if data:
        time.sleep(30)


@pytest.mark.parametrize(("run", "error"), [(crash, KeyError), (hang, drawn.Hang)], ids=["crash", "hang"])
def test_what_breaks_a_target_is_found(monkeypatch: pytest.MonkeyPatch, run: Any, error: Any) -> None:
    monkeypatch.setitem(TARGETS, "broken", FuzzTarget(run, lambda: [b"a" * 30]))
    monkeypatch.setattr(drawn, "INPUT_SECONDS", 0.2)
    with pytest.raises(error):
        drawn.fuzz("broken", runs=200, seconds=30)


def test_the_command_counts_what_it_fed() -> None:
    words = [sys.executable, "-m", "tools.fuzz", "target", "--engine", "drawn", "--runs", "50"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert "target" in result.stdout
    assert "inputs in all" in result.stdout


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("=== Uncaught Python exception: ===\nOverflowError: int too large\n==1== ERROR: x", "OverflowError"),
        ("==7== ERROR: libFuzzer: out-of-memory (used: 1021Mb; limit: 1000Mb)\n", "out-of-memory"),
        ("", "exit status 77"),
    ],
)
def test_a_finding_of_the_guided_engine_says_what_it_is(text: str, word: str) -> None:
    assert word in guided._finding(text, 77)


# Any JSON value in any place of a good manifest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(places(manifest())), VALUES)
def test_any_value_in_any_place_of_a_manifest_is_read_or_refused(path: tuple[Any, ...], new: object) -> None:
    text = json.dumps(put(manifest(), path, new))
    try:
        found = Manifest.from_json(parse_json(text, "the manifest"))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert Manifest.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert "\n" not in message
    assert len(message) < 1000
