"""The classifier of columns as it is, in Ray Data, Spark and Daft on this machine: one process's answers."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.package.conftest import run
from tests.ray_environment import NEEDED, PYTHON, ROOT
from vit_edge import Classifier, ImageError

MODEL = ROOT / "tests" / "data" / "dynamic.onnx"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=NEEDED)

# The first worker that is given a second batch is killed in it, once.
KILLED = """
import os, signal, sys
from pathlib import Path
import ray
from vit_edge import BatchClassifier

class Killed(BatchClassifier):
    calls = 0

    def __call__(self, batch):
        self.calls += 1
        marker = Path(os.environ["MARKER"])
        if self.calls == 2:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                return super().__call__(batch)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)

from examples import classify_on_ray
classify_on_ray.BatchClassifier = Killed
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=10**8)
classify_on_ray.main(sys.argv[1], sys.argv[2], "2")
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines") / "in"
    folder.mkdir()
    noise = np.random.default_rng(11)
    for index in range(120):
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index:03}.png")
    (folder / "077.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def expected(images: Path) -> list[str]:
    classify, lines = Classifier(MODEL, threads=1), []
    for path in sorted(images.iterdir()):
        try:
            best = classify(path, top_k=1)[0]
        except ImageError as error:
            lines.append(f"{path}: {error}")
        else:
            lines.append(f"{path}: {best.label} {best.score:.2f}")
    return lines


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYSPARK_PYTHON", str(PYTHON))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("DAFT_ANALYTICS_ENABLED", "0")
    monkeypatch.setenv("MARKER", str(tmp_path / "killed"))


@pytest.mark.parametrize("engine", ["ray", "spark", "daft"])
def test_an_engine_gives_the_answers_of_one_process(images: Path, expected: list[str], engine: str) -> None:
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    done = run(PYTHON, ROOT / "examples" / f"classify_on_{engine}.py", MODEL, images)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(str(images))] == expected


def test_a_killed_worker_of_ray_data_loses_and_doubles_nothing(
    images: Path, expected: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    done = run(PYTHON, program, MODEL, images)
    assert done.returncode == 0, done.stderr
    assert Path(os.environ["MARKER"]).exists()
    assert [line for line in done.stdout.splitlines() if line.startswith(str(images))] == expected
