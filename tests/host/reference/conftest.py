"""The source that the tests of this folder prove."""

from pathlib import Path

import pytest

from tests.host.vit_folder import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("source") / "vit")
