"""What the tests of this folder share."""

from pathlib import Path

import pytest

from tests.package.digits import Digits, digits_below
from tests.tools.refusal import Main, Refusal


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs a tool with words that it refuses: status 2, and the one line that it then says."""

    def refused(main: Main, words: list[str]) -> str:
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return refused


@pytest.fixture(scope="session")
def digits(folder_of_the_run: Path) -> Digits:
    return digits_below(folder_of_the_run)
