"""`threads="auto"` keeps the default unless something is clearly faster, and measures once per machine."""

import dataclasses
import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge import Classifier, ModelError, UsageError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure import threads as autotune
from vit_edge.runtime.measure.threads import DEFAULT, Threading, candidates, choose, tuned
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings

CPU_ONLY = SessionSettings(provider="cpu")
ONE, TWO, TWO_SPIN = Threading(1, False), Threading(2, False), Threading(2, True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vit-edge" / "threads"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many settings each measurement compared; two threads without spinning win every one."""
    calls: list[int] = []

    def times(runs: list[object], rounds: object) -> np.ndarray:
        del rounds
        calls.append(len(runs))
        table = np.full((9, len(runs)), 10.0)
        table[:, 2] = 5
        return table

    monkeypatch.setattr(autotune, "usable_cores", lambda: 2)
    monkeypatch.setattr(autotune, "time_interleaved", times)
    return calls


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        pytest.param([10, 12, 11, 10.5], DEFAULT, id="all are slower"),
        pytest.param([10, 10, 9.7, 9.6], DEFAULT, id="faster by too little"),
        pytest.param([10, 8, 12, 12], ONE, id="one thread is faster"),
        pytest.param([82, 61, 12, 48], TWO, id="spinning has collapsed"),
        pytest.param([10, 8, 7, 5], TWO_SPIN, id="spinning is worth it"),
        pytest.param([10, 8, 5.1, 5], TWO, id="spinning gains nothing"),
        pytest.param([10, 5.1, 5, 5], ONE, id="the second thread gains nothing"),
    ],
)
def test_the_choice_is_the_fastest_that_is_clearly_so_and_needs_least(
    milliseconds: list[float], expected: Threading
) -> None:
    noise = np.random.default_rng(0).uniform(0.99, 1.01, (30, 4))
    assert choose([DEFAULT, ONE, TWO, TWO_SPIN], np.array(milliseconds) * noise) == expected


def test_what_is_faster_in_half_of_the_rounds_only_is_not_clearly_faster() -> None:
    times = np.full((20, 2), 10.0)
    times[::2, 1] = 2
    assert choose([DEFAULT, ONE], times) == DEFAULT


@given(st.lists(st.lists(st.floats(0.1, 100), min_size=4, max_size=4), min_size=5, max_size=12))
def test_the_choice_is_never_slower_than_the_default(rows: list[list[float]]) -> None:
    times, tried = np.array(rows), [DEFAULT, ONE, TWO, TWO_SPIN]
    chosen = tried.index(choose(tried, times))
    assert np.median(times[:, chosen] / times[:, 0]) <= 1


@pytest.mark.parametrize(
    ("cores", "counts"),
    [(2, [1, 2]), (4, [1, 2, 3, 4]), (6, [1, 2, 3, 4, 6]), (20, [1, 2, 3, 4, 6, 8, 12, 16, 20])],
)
def test_every_number_of_threads_is_tried_with_and_without_spinning(cores: int, counts: list[int]) -> None:
    tried = candidates(cores, None)
    assert tried[:2] == [DEFAULT, Threading(1, None)]
    assert tried[2:] == [Threading(n, way) for n, way in itertools.product(counts[1:], (False, True))]
    assert candidates(cores, False) == [Threading(None, False), *(Threading(n, False) for n in counts)]


def test_the_choice_is_measured_once_and_remembered(data: Path, cache: Path, measured: list[int]) -> None:
    model = read_model(data / "dynamic.onnx")
    for _ in range(2):
        assert tuned(model, CPU_ONLY) == dataclasses.replace(CPU_ONLY, threads=2, spinning=False)
    assert measured == [4]
    assert [json.loads(path.read_text()) for path in cache.iterdir()] == [{"threads": 2, "spinning": False}]


@pytest.mark.parametrize("change", ["another model", "another onnxruntime", "another setting"])
def test_what_the_choice_depends_on_is_measured_anew(
    data: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    tuned(read_model(data / "dynamic.onnx"), CPU_ONLY)
    machine = describe_machine()
    if change == "another onnxruntime":
        monkeypatch.setattr(
            autotune, "describe_machine", lambda: dataclasses.replace(machine, onnxruntime="0.0.1")
        )
    options = (("session.set_denormal_as_zero", "1"),) if change == "another setting" else ()
    name = "pixels.onnx" if change == "another model" else "dynamic.onnx"
    tuned(read_model(data / name), dataclasses.replace(CPU_ONLY, options=options))
    assert len(measured) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"threads": 0, "spinning": false}',
        b'{"threads": "4", "spinning": false}',
        b'{"threads": 2000, "spinning": false}',
        b'{"threads": 2, "spinning": 1}',
        b'{"threads": 2, "spinning": false, "more": 1}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_cache_is_measured_anew_and_mended(
    data: Path, cache: Path, measured: list[int], content: bytes
) -> None:
    model = read_model(data / "dynamic.onnx")
    tuned(model, CPU_ONLY)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert tuned(model, CPU_ONLY).threads == 2
    assert len(measured) == 2
    assert json.loads(file.read_text()) == {"threads": 2, "spinning": False}


def test_a_cache_that_cannot_be_written_costs_only_time(
    data: Path, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert tuned(read_model(data / "dynamic.onnx"), CPU_ONLY).threads == 2
    assert len(measured) == 2


def test_a_stated_way_to_wait_stands(data: Path, measured: list[int]) -> None:
    settings = dataclasses.replace(CPU_ONLY, spinning=True)
    assert tuned(read_model(data / "dynamic.onnx"), settings).spinning is True
    assert measured == [3]


def test_on_one_core_there_is_nothing_to_measure(
    data: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "usable_cores", lambda: 1)
    assert tuned(read_model(data / "dynamic.onnx"), CPU_ONLY) == CPU_ONLY
    assert measured == []


def test_threads_that_ask_at_once_measure_once(data: Path, measured: list[int]) -> None:
    model = read_model(data / "dynamic.onnx")
    threads = [threading.Thread(target=tuned, args=(model, CPU_ONLY)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert measured == [4]


@pytest.mark.parametrize("name", ["dynamic.onnx", "fixed4.onnx", "pixels.onnx"])
def test_a_session_takes_what_was_really_measured(
    data: Path, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "ROUNDS", dataclasses.replace(autotune.ROUNDS, seconds=0.05))
    model = read_model(data / name)
    session = Session(model, SessionSettings(provider="cpu", threads="auto"))
    assert session.settings == tuned(model, CPU_ONLY)
    assert session.threads is None or session.threads >= 1
    assert len(list(cache.iterdir())) == 1
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(session.run(pixels), Session(model, CPU_ONLY).run(pixels), atol=1e-6)


def test_a_classifier_takes_auto(data: Path, measured: list[int]) -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    automatic, plain = (Classifier(data / "dynamic.onnx", "cpu", threads) for threads in ("auto", None))
    assert [each.index for each in automatic(image)] == [each.index for each in plain(image)]
    assert measured == [4]


def test_a_model_that_cannot_run_is_refused_as_ever(data: Path) -> None:
    with pytest.raises(ModelError):
        Session(read_model(data / "plain.onnx"), SessionSettings(threads="auto"))


@pytest.mark.parametrize("threads", ["Auto", "", "2", 0, -1, 2000, 1.5])
def test_other_words_and_numbers_are_refused(threads: object) -> None:
    with pytest.raises(UsageError, match="or auto"):
        SessionSettings(threads=threads)  # type: ignore[arg-type]
