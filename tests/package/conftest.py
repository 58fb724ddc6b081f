"""One bundle for all homes, and the packages of npm that they need, where those are there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.package.digits import Digits, digits_below
from tools.check_package.modules import onnxruntime_modules, sharp_module, typescript_module
from tools.engines.catalogue import default_cache
from vit_edge.errors import UsageError

CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs


@pytest.fixture(scope="session")
def digits(folder_of_the_run: Path) -> Digits:
    return digits_below(folder_of_the_run)


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder `node_modules` with onnxruntime-node and onnxruntime-web."""
    return _or_skip(onnxruntime_modules)


@pytest.fixture(scope="session")
def sharp() -> Path:
    """The folder of sharp, which decodes images in Node."""
    return _or_skip(sharp_module)


@pytest.fixture(scope="session")
def typescript() -> Path:
    """The folder of TypeScript's compiler."""
    return _or_skip(typescript_module)


def _or_skip(place_of: Callable[[Path], Path]) -> Path:
    try:
        return place_of(CACHE)
    except UsageError as error:
        pytest.skip(str(error))


def run(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""
