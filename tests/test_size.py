"""A file has one topic and fits on a few screens."""

from pathlib import Path

import pytest

import vit_edge

PACKAGE = Path(vit_edge.__file__).parent
MOST_LINES = 300


def too_long(folder: Path) -> list[str]:
    """The Python files below a folder that are longer than the rule allows."""
    files = sorted(folder.rglob("*.py"))
    return [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES]


def test_no_file_of_the_package_is_longer_than_the_rule_allows() -> None:
    assert too_long(PACKAGE) == []


@pytest.mark.parametrize(("lines", "found"), [(MOST_LINES, []), (MOST_LINES + 1, ["x.py"])])
def test_the_rule_tells_long_from_short(tmp_path: Path, lines: int, found: list[str]) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "x.py").write_text("pass\n" * lines, encoding="utf-8")
    assert too_long(tmp_path) == found
