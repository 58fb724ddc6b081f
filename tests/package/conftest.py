"""One bundle for all homes, and the packages of npm that they need, where those are there."""

import subprocess
from pathlib import Path

import pytest

from tests.package.digits import Digits, make_digits
from tools.engines.catalogue import ENGINES, default_cache

CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs
SHARP = "sharp@0.35.5"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return make_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder `node_modules` with onnxruntime-node and onnxruntime-web."""
    engine = next(each for each in ENGINES if each.node)
    reason = engine.missing(CACHE)
    if reason is not None:
        pytest.skip(reason)
    return engine.place(CACHE) / "node_modules"


@pytest.fixture(scope="session")
def sharp() -> Path:
    """The folder of sharp, which decodes images in Node."""
    place = CACHE / "npm_sharp-0.35.5"
    if not (place / "node_modules" / "sharp").is_dir():
        pytest.skip(f"needs sharp: npm install --ignore-scripts --prefix {place} {SHARP}")
    return place / "node_modules" / "sharp"


def run(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
