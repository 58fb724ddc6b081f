"""What the tests of this folder share."""

from pathlib import Path

import pytest

from tests.package.digits import Digits, digits_below


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""


@pytest.fixture(scope="session")
def digits(folder_of_the_run: Path) -> Digits:
    return digits_below(folder_of_the_run)
