"""Batches keep order and bounds, cost no image for another's sake, and end when they are told to."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.predict.batching import in_batches

ROOT = Path(__file__).parents[3]


def doubled(rows: list[int]) -> list[int]:
    return [2 * row for row in rows]


def itself(source: int) -> int:
    return source


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vit_edge-load")]


def counted(taken: list[int]) -> Iterator[int]:
    for number in itertools.count():
        taken.append(number)
        yield number


@given(st.integers(0, 40), st.integers(1, 9), st.sets(st.integers(0, 39)))
@settings(deadline=None, max_examples=50)
def test_answers_come_in_order_with_a_refused_source_in_its_place(
    count: int, batch_size: int, bad: set[int]
) -> None:
    sizes = []

    def load(source: int) -> int:
        time.sleep(0.0002 * (source % 3))  # so that later ones are often ready first
        if source in bad:
            raise ImageError(f"{source} is no image")
        return source

    def run(rows: list[int]) -> list[int]:
        sizes.append(len(rows))
        return doubled(rows)

    answers = list(in_batches(range(count), load, run, batch_size))
    shown = [str(answer) if isinstance(answer, ImageError) else answer for answer in answers]
    assert shown == [f"{n} is no image" if n in bad else 2 * n for n in range(count)]
    assert all(0 < size <= batch_size for size in sizes)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_of_endless_sources_no_more_than_two_batches_are_held(batch_size: int) -> None:
    taken: list[int] = []
    held = []
    answers = in_batches(counted(taken), itself, doubled, batch_size)
    for position, answer in enumerate(itertools.islice(answers, 200)):
        assert answer == 2 * position
        held.append(len(taken) - position)
    answers.close()  # type: ignore[attr-defined]  # the iterator is a generator
    assert max(held) <= 2 * max(batch_size, 4)


def test_the_next_batch_is_loaded_while_one_runs() -> None:
    loaded = threading.Event()

    def load(source: int) -> int:
        if source == 2:
            loaded.set()
        return source

    def run(rows: list[int]) -> list[int]:
        if rows[0] == 0:
            assert loaded.wait(30), "source 2 of the second batch was not loaded during the first"
        return rows

    assert list(in_batches(range(4), load, run, 2)) == [0, 1, 2, 3]


def test_the_model_runs_in_the_callers_thread_and_loading_does_not() -> None:
    loaders, runners = set(), set()

    def load(source: int) -> int:
        loaders.add(threading.current_thread())
        return source

    def run(rows: list[int]) -> list[int]:
        runners.add(threading.current_thread())
        return rows

    list(in_batches(range(20), load, run, 4))
    assert runners == {threading.current_thread()}
    assert threading.current_thread() not in loaders


def test_nothing_is_taken_before_the_first_answer_is_asked_for() -> None:
    taken: list[int] = []
    answers = in_batches(counted(taken), itself, doubled, 2)
    assert taken == []
    assert workers() == []
    del answers


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "raise in run"])
def test_the_workers_stop_with_the_iterator(end: str) -> None:
    def run(rows: list[int]) -> list[int]:
        if end == "raise in run" and rows[0] > 0:
            raise RuntimeError("out of order")
        return rows

    answers = in_batches(range(20), itself, run, 2)
    next(answers)
    assert workers()
    if end == "close":
        answers.close()  # type: ignore[attr-defined]
    elif end == "drop":
        del answers
    elif end == "exhaust":
        list(answers)
    else:
        with pytest.raises(RuntimeError, match="out of order"):
            list(answers)
    assert workers() == []


def test_closing_does_not_load_what_is_still_waiting() -> None:
    loaded = []

    def load(source: int) -> int:
        loaded.append(source)
        time.sleep(0.01)
        return source

    answers = in_batches(itertools.count(), load, doubled, 64)
    next(answers)
    before = len(loaded)
    answers.close()  # type: ignore[attr-defined]
    assert len(loaded) - before < 16, "64 were waiting"


@pytest.mark.parametrize("error", [OSError("the camera is gone"), ImageError("the list is no image")])
@pytest.mark.parametrize("position", [0, 1, 3, 4, 7])
def test_what_the_sources_raise_comes_after_the_answers_before_it(position: int, error: Exception) -> None:
    def sources() -> Iterator[int]:
        yield from range(position)
        raise error

    answers = in_batches(sources(), itself, doubled, 4)
    assert [next(answers) for _ in range(position)] == [2 * n for n in range(position)]
    with pytest.raises(type(error), match=str(error)):
        next(answers)
    assert workers() == []


def test_an_error_of_loading_other_than_of_an_image_is_raised_in_its_place() -> None:
    def load(source: int) -> int:
        return 10 // (source - 5)

    answers = in_batches(range(9), load, doubled, 4)
    assert [next(answers) for _ in range(5)] == [2 * (10 // (n - 5)) for n in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused_at_the_call(batch_size: int) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        in_batches([], itself, doubled, batch_size)


def python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


BEGUN = (
    "import itertools, os, time\n"
    "from vit_edge.errors import UsageError\n"
    "from vit_edge.runtime.predict.batching import in_batches\n"
    "answers = in_batches(itertools.count(), lambda n: time.sleep(0.01) or n, lambda rows: rows, 8)\n"
    "print(next(answers), flush=True)\n"
)


def test_the_interpreter_ends_with_a_batch_still_open() -> None:
    assert python(BEGUN) == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_batch_that_went_through_a_fork_is_refused_and_does_not_wait_for_ever() -> None:
    child = (
        "if os.fork() == 0:\n"
        "    try: print(len(list(itertools.islice(answers, 20))), flush=True)\n"
        "    except UsageError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert "begun before the process forked" in python(BEGUN + child)
