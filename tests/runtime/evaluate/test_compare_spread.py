"""`compare` over processes and over Ray: the verdict and the evidence of one process, to the last byte."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.ray_environment import PYTHON, ROOT, environment, on, with_ray
from tests.runtime.evaluate.embedders import noisy_copy
from tests.runtime.evaluate.test_against_truth import a_detector, a_segmenter, data
from vit_edge.cli import main
from vit_edge.errors import UsageError
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.evaluate.elsewhere import runs
from vit_edge.runtime.image.limits import DEFAULT_LIMITS
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.runtime.spread.task import Chunk, Spread

__all__ = ["data"]  # a fixture of the tests against truth

FILES = ROOT / "tests" / "data"
Output = pytest.CaptureFixture[str]


class Pair(NamedTuple):
    """Two models, and how they are compared."""

    first: Path
    second: Path
    more: list[str]


def classifiers(place: Path) -> Pair:
    return Pair(FILES / "dynamic.onnx", noisy_copy(FILES / "dynamic.onnx", place / "noisy.onnx", 0.1), [])


def in_random_order(place: Path) -> Pair:
    return classifiers(place)._replace(more=["--sequential", "--max-changed", "60"])


def embedders(place: Path) -> Pair:
    return Pair(FILES / "embedder.onnx", noisy_copy(FILES / "embedder.onnx", place / "noisy.onnx", 0.02), [])


def detectors(place: Path) -> Pair:
    first, second = a_detector(place / "float.onnx"), a_detector(place / "quant.onnx", size=0.45)
    return Pair(first, second, ["--truth", str(place / "boxes.json")])


def segmenters(place: Path) -> Pair:
    first, second = a_segmenter(place / "float.onnx"), a_segmenter(place / "quant.onnx", green=0.5)
    return Pair(first, second, ["--truth", str(place / "masks")])


KINDS = [classifiers, in_random_order, embedders, detectors, segmenters]


def words(pair: Pair, images: Path, report: Path, *more: str) -> list[str]:
    start = ["compare", str(pair.first), str(pair.second), "--data", str(images), "--batch", "4"]
    return [*start, "--json", str(report), *pair.more, *more]


def alone(
    pair: Pair, images: Path, report: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> tuple[int, str, bytes]:
    """What one process does that remembers no earlier look."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(report.parent / "alone"))
        status = main([*words(pair, images, report), "--quiet"])
    said = capsys.readouterr()
    assert said.err == ""
    return status, said.out, report.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_say_and_write_what_one_does(
    data: Path, kind: Callable[[Path], Pair], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    pair, images = kind(data), data / "images"
    expected = alone(pair, images, data / "plain.json", monkeypatch, capsys)
    assert expected[0] in (0, 1, 3)
    report = data / "two.json"
    status = main([*words(pair, images, report, "--workers", "2"), "--quiet"])
    said = capsys.readouterr()
    assert (status, said.out, report.read_bytes()) == expected
    assert said.err == ""


@with_ray
@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_of_ray_say_and_write_what_one_process_does(
    data: Path, kind: Callable[[Path], Pair], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """Relative names, too: workers begin in another folder."""
    monkeypatch.chdir(data)
    pair = kind(data)
    expected = alone(pair, Path("images"), data / "plain.json", monkeypatch, capsys)
    report = data / "ray.json"
    ray = ["--engine", "ray", "--workers", "2", "--quiet"]
    done = on([str(PYTHON), "-m", "vit_edge", *words(pair, Path("images"), report, *ray)], data)
    assert (done.returncode, done.stdout, report.read_bytes()) == expected, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_nobody_compares_nothing(data: Path, workers: str, capsys: Output) -> None:
    pair, report = classifiers(data), data / "report.json"
    assert main(words(pair, data / "images", report, "--workers", workers)) == 2
    assert f"--workers must be at least 1, got {workers}" in capsys.readouterr().err
    assert not report.exists()


def test_an_image_that_is_none_is_named_by_the_worker_that_met_it(data: Path, capsys: Output) -> None:
    broken = data / "images" / "33.png"
    broken.write_bytes(b"no image")
    pair, report = classifiers(data), data / "report.json"
    assert main(words(pair, data / "images", report, "--workers", "2", "--quiet")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{broken}" in err
    assert "repair or remove it" in err
    assert not report.exists()


def _opened(
    models: tuple[ModelFile, ...], session: SessionSettings, limits: object
) -> Callable[[Chunk], int]:
    del session, limits
    assert all(model.data for model in models)
    return len


def test_a_model_that_was_replaced_meanwhile_is_refused(data: Path) -> None:
    copy = data / "copy.onnx"
    copy.write_bytes((FILES / "dynamic.onnx").read_bytes())
    both = runs([read_model(copy)], SessionSettings(), DEFAULT_LIMITS, _opened, Spread(2))
    images = list_images(data / "images")
    assert sum(both.of(images, 3)) == len(images)
    copy.write_bytes((FILES / "plain.onnx").read_bytes())
    with pytest.raises(UsageError, match=r"copy\.onnx is another file there than here; copy it again"):
        both.task.opened()
    copy.unlink()
    with pytest.raises(UsageError, match=r"copy\.onnx cannot be read there"):
        both.task.opened()


def workers_of(process: int) -> list[int]:
    """Those of its children that run the pool's work."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find a run's workers")
def test_a_killed_worker_is_one_line_and_leaves_no_report(data: Path) -> None:
    images = data / "many"
    images.mkdir()
    noise = np.random.default_rng(1)
    for number in range(60):
        pixels = noise.integers(0, 256, (700, 700, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    pair, report = classifiers(data), data / "report.json"
    run = [sys.executable, "-m", "vit_edge", *words(pair, images, report, "--workers", "2")]
    job = subprocess.Popen(run, cwd=data, env=environment(), stderr=subprocess.PIPE, text=True)
    while job.poll() is None:
        found = workers_of(job.pid)
        if len(found) == 2:
            os.kill(found[0], signal.SIGKILL)
            break
        time.sleep(0.01)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 2
    last = said.strip().splitlines()[-1]
    assert "a worker process ended by itself" in last
    assert "run the same command again from its beginning, with fewer --workers" in last
    assert "Traceback" not in said
    assert not report.exists()
