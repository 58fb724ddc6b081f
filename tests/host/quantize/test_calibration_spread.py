"""The calibration pass over processes and over Ray: what one process finds, to the last bit."""

import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.host.quantize.small_vit import PREPROCESS, lowering, small, written
from tests.ray_environment import PYTHON, ROOT, on, with_ray
from tools.digits import make_folders
from vit_edge.cli import main
from vit_edge.errors import ImageError, ModelError, StepError
from vit_edge.host.quantize.cache import CalibrationFile, key_of
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.passes import PART, Reader, observed
from vit_edge.runtime.spread.task import ALONE, Spread

TAPS = ["blocks.0.qkv", "blocks.1.fc2", "head", "blocks.1.attention.k", "blocks.0.attention.p"]
COUNT = 3 * PART + 5  # the last part is smaller

# What the other Python runs: the pass over Ray, of an observer that was made here.
PROGRAM = """
import pickle, sys
from pathlib import Path
from vit_edge.host.quantize.passes import Reader, observed
from vit_edge.runtime.spread.task import Engine, Spread
with open(sys.argv[1], "rb") as file:
    observer, paths, preprocess = pickle.load(file)
told = []
spread = Spread(2, Engine.RAY)
observed(observer, paths, Reader(preprocess), Path(sys.argv[2]), lambda *all: told.append(all), spread)
print(told)
"""

with_onnx = pytest.mark.skipif(
    not list(PYTHON.parents[1].glob("lib/python*/site-packages/onnx_ir")),
    reason="needs onnx, onnx-ir and onnxscript beside Ray",
)


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer(small(), lowering(), TAPS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("calibration"), COUNT)


def kept(observer: Observer, paths: list[Path], folder: Path, spread: Spread) -> dict[str, bytes]:
    """The arrays of a finished pass, as they are kept."""
    observed(observer, paths, Reader(PREPROCESS), folder, lambda *_: None, spread)
    return arrays(CalibrationFile(folder, key_of(observer, paths, PREPROCESS)).path)


def arrays(file: Path) -> dict[str, bytes]:
    with np.load(file) as stored:
        return {name: stored[name].tobytes() for name in stored.files}


def test_processes_find_what_one_finds_to_the_last_bit(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    alone = kept(observer, paths, tmp_path / "alone", ALONE)
    assert {"0.outer", "0.counts", "0.sum", "3.counts", "done"} <= alone.keys()
    for workers in (2, 3):
        assert kept(observer, paths, tmp_path / str(workers), Spread(workers)) == alone


@with_ray
@with_onnx
def test_two_workers_of_ray_find_what_one_process_finds_to_the_last_bit(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    alone = kept(observer, paths, tmp_path / "alone", ALONE)
    (tmp_path / "given").write_bytes(pickle.dumps((observer, paths, PREPROCESS)))
    done = on([str(PYTHON), "-c", PROGRAM, str(tmp_path / "given"), str(tmp_path / "ray")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(min(start, COUNT), COUNT) for start in (16, 32, 48, 64)])
    [file] = (tmp_path / "ray").iterdir()
    assert arrays(file) == alone


def test_a_pass_that_one_process_began_is_gone_on_with_by_two(
    observer: Observer, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vit_edge.host.quantize.passes.SAVE_EVERY", 2 * PART)

    def stop(done: int, _: int) -> None:
        if done == 2 * PART + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observed(observer, paths, Reader(PREPROCESS), tmp_path / "both", stop)
    told: list[int] = []
    observed(
        observer, paths, Reader(PREPROCESS), tmp_path / "both", lambda done, _: told.append(done), Spread(2)
    )
    assert told == [2 * PART, 3 * PART, COUNT]
    [file] = (tmp_path / "both").iterdir()
    assert arrays(file) == kept(observer, paths, tmp_path / "alone", ALONE)


def test_an_image_that_is_none_is_named_by_the_worker_that_met_it(
    observer: Observer, paths: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        observed(observer, [*paths, broken], Reader(PREPROCESS), None, lambda *_: None, Spread(2))


class Broken(Observer):
    """Gives values that are not finite, in whichever process."""

    def open(self, threads: int) -> None:
        del threads
        self.session = self

    def run(self, names: list[str], _: object) -> list[np.ndarray]:
        return [np.full((17, 72), np.nan, np.float32) for _ in names]


def test_values_that_are_not_finite_name_the_image(paths: list[Path]) -> None:
    broken = Broken(small(), lowering(), ["blocks.0.qkv"])
    with pytest.raises(ModelError, match=r"not finite on calibration image .*\.png; look for a broken"):
        observed(broken, paths, Reader(PREPROCESS), None, lambda *_: None, Spread(2))


class Ending(Observer):
    """Ends its process, as one that is killed."""

    def open(self, threads: int) -> None:
        os._exit(threads)


def test_a_worker_that_ends_is_one_sentence(paths: list[Path]) -> None:
    ending = Ending(small(), lowering(), TAPS)
    with pytest.raises(StepError, match=r"ended by itself .* again to go on where calibration was last kept"):
        observed(ending, paths, Reader(PREPROCESS), None, lambda *_: None, Spread(2))


def test_the_int8_file_does_not_depend_on_who_calibrates(tmp_path: Path) -> None:
    make_folders(tmp_path / "images")
    source = str(ROOT / "models" / "digits_vit")
    words = ["quantize", source, "--calib", str(tmp_path / "images" / "calibration"), "--preset", "static"]
    made = []
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        out = tmp_path / f"{name}.onnx"
        assert main([*words, "--calib-images", "40", "-o", str(out), "--quiet", *more]) == 0
        made.append(out.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--engine", "ray"], "ray is not installed"),
    ],
)
def test_who_cannot_calibrate_is_refused_at_once(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = [
        "quantize",
        str(ROOT / "tests/data/dynamic.onnx"),
        "--calib",
        str(tmp_path),
        "-o",
        str(tmp_path / "out.onnx"),
    ]
    if "ray" in more and importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed")
    assert main([*words, *more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_observer_travels_without_its_session(observer: Observer) -> None:
    copy = pickle.loads(pickle.dumps(observer))  # noqa: S301  made here
    assert not hasattr(copy, "session")
    assert copy.model == observer.model
