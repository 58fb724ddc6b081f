"""What every test may use; needs no more than the base install, pytest and hypothesis."""

import gc
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # a test file may import onnxruntime before vit_edge

import numpy as np
import onnxruntime
import PIL
from hypothesis import HealthCheck, settings

# Time is never asserted: a property that holds takes longer on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

DATA = Path(__file__).parent / "data"


def pytest_report_header() -> str:
    providers = ", ".join(onnxruntime.get_available_providers())
    versions = f"numpy {np.__version__}, pillow {PIL.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{versions} ({providers})"


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same for what fixtures of a wider scope do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache" / secrets.token_hex(4)))


@pytest.fixture(autouse=True, scope="module")
def settled() -> None:
    """What is there when a file of tests begins is not searched for garbage again.

    What comes with torch and transformers is a million objects, and every measurement begins with a search.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes that share the tests of this run, and for no other run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="session")
def brief_timing() -> Iterator[None]:
    """No test waits for seconds of measuring that it does not ask for."""
    from tests.brief import rounds_alone

    with rounds_alone():
        yield


@pytest.fixture(scope="session")
def exporter(folder_of_the_run: Path) -> Iterator[None]:
    """torch's exporter is asked once for what several tests ask of it."""
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from tests.exporter import keeping, operators

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", keeping(folder_of_the_run))
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(operators))
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of tiny ONNX files that tools/make_fixtures.py makes."""
    return DATA


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A smooth uint8 (37, 53, 3) image with noise on it: no symmetry, no flat part."""
    rows, columns = np.mgrid[0:37, 0:53]
    noise = np.random.default_rng(3).integers(-20, 20, (37, 53, 3))
    waves = np.stack([np.sin(rows / 5), np.cos(columns / 7), np.sin((rows + columns) / 9)], -1)
    return np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)
