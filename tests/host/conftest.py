"""The embedded model and images for it, for every test of this folder that asks for them."""

from pathlib import Path

import pytest

from tools.digits import make_folders
from vit_edge.host.sources import Source, SourceOptions, resolve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def digits() -> Source:
    """The digits model as a source."""
    return resolve(str(ROOT / "models" / "digits_vit"), SourceOptions())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that `make_folders` makes; left unchanged."""
    folder = tmp_path_factory.mktemp("digits")
    make_folders(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""
