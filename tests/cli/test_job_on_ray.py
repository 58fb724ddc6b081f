"""A job over Ray: the rows of a plain run, in its order, whatever worker or run is killed in the middle."""

import importlib.util
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ray_environment import PYTHON, ROOT, environment, on, with_ray
from vit_edge import __version__
from vit_edge.cli import main
from vit_edge.errors import StepError
from vit_edge.runtime.job.answers import AnswerTask, Opening
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.spread.on_ray import Made, Worker, in_order
from vit_edge.runtime.spread.task import Place, Task

TINY = ROOT / "tests" / "data" / "dynamic.onnx"
EMBEDDER = ROOT / "tests" / "data" / "embedder.onnx"

Output = pytest.CaptureFixture[str]

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find a job's workers")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred names, one of no image, of pictures that take a moment each."""
    place = tmp_path_factory.mktemp("ray")
    folder = place / "in"
    folder.mkdir()
    noise = np.random.default_rng(5)
    for index in range(8):
        pixels = noise.integers(0, 256, (500, 500, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index}.png")
    for index in range(200):
        (folder / f"{index:03}.png").symlink_to(place / f"{index % 8}.png")
    (folder / "077.png").unlink()
    (folder / "077.png").write_bytes(b"no image")
    return folder


def command(name: str, model: Path, images: str | Path, results: Path, *more: str) -> list[str]:
    start = [str(PYTHON), "-m", "vit_edge", name, str(model), "--dir", str(images), "-o", str(results)]
    return [*start, "--engine", "ray", "--workers", "2", *more]


def plain(images: str | Path, results: Path) -> bytes:
    words = ["classify", str(TINY), "--dir", str(images), "-o", str(results), "--threads", "1"]
    assert main(words) == 2
    return results.read_bytes()


@with_ray
def test_two_workers_write_what_one_run_writes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative names, too: workers begin in another folder."""
    (tmp_path / "in").symlink_to(images)
    monkeypatch.chdir(tmp_path)
    expected = plain("in", tmp_path / "plain.jsonl")
    done = on(command("classify", TINY, "in", tmp_path / "ray.jsonl"), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path / 'ray.jsonl'}: 200 images, 1 with an error\n"
    assert (tmp_path / "ray.jsonl").read_bytes() == expected
    record = json.loads((tmp_path / "ray.jsonl.job").read_text())
    assert record == json.loads((tmp_path / "plain.jsonl.job").read_text())


@with_ray
def test_embeddings_are_those_of_one_run(images: Path, tmp_path: Path) -> None:
    words = [
        "embed",
        str(EMBEDDER),
        "--dir",
        str(images),
        "-o",
        str(tmp_path / "plain.npy"),
        "--threads",
        "1",
    ]
    assert main(words) == 2
    done = on(command("embed", EMBEDDER, images, tmp_path / "ray.npy"), tmp_path)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "ray.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()
    assert (tmp_path / "ray.npy.jsonl").read_bytes() == (tmp_path / "plain.npy.jsonl").read_bytes()


def ancestors(process: int) -> set[int]:
    found: set[int] = set()
    while process > 1:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            break
        found.add(process := int(stat.rsplit(")", 1)[1].split()[1]))
    return found


def workers_of(job: int) -> list[int]:
    """Processes of Ray below a job that hold a model."""
    every = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    found = []
    for process in every:
        try:
            name = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::Worker") and job in ancestors(process):
            found.append(process)
    return found


def started(words: Sequence[str], results: Path, count: int, cwd: Path) -> "subprocess.Popen[str]":
    """A job that has written some rows."""
    job = subprocess.Popen(words, cwd=cwd, env=environment(), stderr=subprocess.PIPE, text=True)
    for _ in range(6000):
        if results.exists() and results.read_bytes().count(b"\n") >= count:
            return job
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.01)
    job.kill()
    raise AssertionError("no row was written")


@linux
@with_ray
def test_a_killed_worker_loses_and_doubles_nothing(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "ray.jsonl"
    job = started(command("classify", TINY, images, results), results, 20, tmp_path)
    workers = workers_of(job.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    written = results.read_bytes().count(b"\n")
    _, said = job.communicate(timeout=240)
    assert written < 200
    assert job.returncode == 2, said
    assert "200 images, 1 with an error" in said
    assert results.read_bytes() == plain(images, tmp_path / "plain.jsonl")


@linux
@with_ray
def test_a_killed_run_is_gone_on_with_by_any_engine(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    job = started(command("classify", TINY, images, results), results, 20, tmp_path)
    workers = workers_of(job.pid)
    job.kill()
    job.communicate()
    assert 20 <= results.read_bytes().count(b"\n") < 200
    assert plain(images, results) == plain(images, tmp_path / "plain.jsonl")
    for _ in range(3000):
        if not any(Path(f"/proc/{each}").exists() for each in workers):
            return
        time.sleep(0.02)
    raise AssertionError("a worker outlives its job")


@with_ray
def test_more_workers_than_cpus_are_refused_when_a_cluster_is_there(images: Path, tmp_path: Path) -> None:
    """Connected to a cluster already, as from a program that uses Ray."""
    program = f"""
import ray
from vit_edge.cli import main
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
words = ["classify", {str(TINY)!r}, "--dir", {str(images)!r}, "-o", "r.jsonl", "--engine", "ray"]
print(main([*words, "--workers", "3"]), main([*words, "--workers", "2", "--threads", "2"]), main(words))
print(ray.is_initialized())
"""
    done = on([str(PYTHON), "-c", program], tmp_path, RAY_USAGE_STATS_ENABLED="0")
    assert done.stdout.split() == ["2", "2", "2", "True"], done.stderr
    assert "has CPUs for 2 workers of 1 threads, not for 3" in done.stderr
    assert "has CPUs for 1 workers of 2 threads, not for 2" in done.stderr
    assert (tmp_path / "r.jsonl").read_bytes() == plain(images, tmp_path / "plain.jsonl")


@with_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_line(images: Path, tmp_path: Path, address: str) -> None:
    done = on(command("classify", TINY, images, tmp_path / "r.jsonl"), tmp_path, RAY_ADDRESS=address)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"no Ray cluster answers at RAY_ADDRESS={address}" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install(images: Path, tmp_path: Path, capsys: Output) -> None:
    words = ["classify", str(TINY), "--dir", str(images), "-o", str(tmp_path / "r.jsonl"), "--engine", "ray"]
    assert main(words) == 2
    assert "ray is not installed; run: pip install 'vit-edge[ray]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine", "ray"], "--engine is of a job with results in a file"),
        (["--engine", "abacus", "-o", "r.jsonl"], "argument --engine: 'abacus' is none of ray"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused(
    images: Path, more: list[str], message: str, capsys: Output
) -> None:
    assert main(["classify", str(TINY), "--dir", str(images), *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def nothing() -> Task[object]:
    """No task, as no worker asks for it."""
    raise AssertionError


class _Handle:
    """What Ray gives for a worker: `made.remote` begins a call."""

    def __init__(self, calls: dict[int, Made], numbers: Any) -> None:
        self._calls, self._numbers = calls, numbers
        self.made = self

    def remote(self, names: Sequence[str], _: Callable[[], Task[object]]) -> int:
        number: int = next(self._numbers)
        self._calls[number] = Made(tuple(names))
        return number


class FakeRay:
    """Answers calls in any order; one at most is lost where `lost` says so."""

    class exceptions:  # noqa: N801  as Ray calls it
        class RayError(Exception):
            pass

    def __init__(self, seed: int, workers: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  an order, no secret
        self.calls, self.most = dict[int, Made](), 0
        numbers = itertools.count()
        self.team = [_Handle(self.calls, numbers) for _ in range(workers)]

    def wait(self, running: Sequence[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        assert num_returns == 1
        assert timeout > 0
        self.most = max(self.most, len(running))
        return [self._random.choice(list(running))], []

    def get(self, number: int) -> Made:
        return self.calls[number]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_rows_come_in_order_however_workers_answer(seed: int, workers: int) -> None:
    chunks = [[f"{chunk}.{place}" for place in range(1 + chunk % 3)] for chunk in range(40)]
    ray = FakeRay(seed, workers)
    assert list(in_order(ray, ray.team, chunks, nothing, "")) == [tuple(chunk) for chunk in chunks]
    assert ray.most <= 3 * workers  # what is asked for at a time does not grow with the images


@pytest.mark.parametrize("kind", ["silent", "ended", "refused"])
def test_a_cluster_that_fails_is_one_sentence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(0, 2)

    def fail(*_: object, **__: object) -> Any:
        if kind == "silent":
            return [], []
        raise FakeRay.exceptions.RayError("The actor died unexpectedly.\nIts log is here.")

    monkeypatch.setattr(ray, "wait" if kind == "silent" else "get", fail)
    if kind == "refused":
        monkeypatch.setattr(ray, "get", lambda _: Made(refusal="on red: it is another file there"))
    message = {
        "silent": "has answered for 10 minutes, first is waited for",
        "ended": r"at first or an image near it, and 3 times again \(The actor died unexpectedly\)",
        "refused": "a worker of the Ray cluster refused on red: it is another file there",
    }[kind]
    with pytest.raises(StepError, match=message) as caught:
        list(in_order(ray, ray.team, [["first"], ["second"]], nothing, "to go on"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "sha256", "message"),
    [
        (Place(), "0" * 64, "is another file there than here; copy the bundle again"),
        (Place(version="0.0.1"), "", f"vit-edge is {__version__} there and 0.0.1 here"),
        (Place(None, ("/absent",)), "", "/absent is no folder there"),
        (Place("/absent"), "", "/absent is no folder there"),
    ],
)
def test_a_machine_that_differs_is_refused_there(place: Place, sha256: str, message: str) -> None:
    task = AnswerTask(Opening(TINY, None), sha256)
    made = Worker(place).made([], lambda: task)
    assert message in str(made.refusal)
    assert made.result is None


def test_a_worker_that_fits_answers(images: Path) -> None:
    task = AnswerTask(Opening(TINY, None, threads=1), read_model(TINY).sha256)
    worker = Worker(Place(None, (str(images),)))
    assert worker.made([], lambda: task) == Made()
    made = worker.made([str(images / "000.png"), str(images / "077.png")], lambda: task)
    assert [row.error is None for row in made.result] == [True, False]
    assert made.refusal is None


def test_the_module_is_read_without_ray() -> None:
    code = "import sys, vit_edge.runtime.spread.on_ray; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
