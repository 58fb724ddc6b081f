"""The user's cache: files that are there whole or not at all, and whose absence harms nothing."""

from pathlib import Path

import pytest

from vit_edge.runtime.device.user_cache import cache_folder, read_cached, write_cached


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("/somewhere", Path("/somewhere/vit-edge")),
        ("relative", Path("/home/someone/.cache/vit-edge")),
        ("", Path("/home/someone/.cache/vit-edge")),
        (None, Path("/home/someone/.cache/vit-edge")),
    ],
)
def test_the_folder_is_where_xdg_has_it(
    monkeypatch: pytest.MonkeyPatch, stated: str | None, expected: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if stated is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", stated)
    assert cache_folder() == expected


def test_what_was_written_is_read_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_cached("kind/name", 100) is None
    for data in (b"first", b"second"):
        assert write_cached("kind/name", data)
        assert read_cached("kind/name", 100) == data
    assert len(list((tmp_path / "vit-edge" / "kind").iterdir())) == 1, "no draft may be left"


def test_a_file_longer_than_expected_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_cached("name", b"12345")
    assert read_cached("name", 5) == b"12345"
    assert read_cached("name", 4) is None


@pytest.mark.parametrize("obstacle", ["a file for the folder", "a folder for the file", "no home"])
def test_an_obstacle_means_no_cache_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if obstacle == "a file for the folder":
        (tmp_path / "vit-edge").touch()
    elif obstacle == "a folder for the file":
        (tmp_path / "vit-edge" / "name" / "inside").mkdir(parents=True)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
    assert not write_cached("name", b"data")
    assert read_cached("name", 100) is None
    assert not list(tmp_path.glob("**/.name.*")), "no draft may be left"
