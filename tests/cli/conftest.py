"""What the tests of this folder share."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""
