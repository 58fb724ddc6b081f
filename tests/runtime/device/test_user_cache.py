"""The user's cache: files that are there whole or not at all, and whose absence harms nothing."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vit_edge.runtime.device import user_cache
from vit_edge.runtime.device.user_cache import cache_folder, read_cached, user_secret, write_cached

POSIX = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of POSIX")


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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, and no line about it said yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    user_cache._warn.cache_clear()
    return tmp_path / "vit-edge"


@POSIX
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_nobody_else_may_enter_what_is_made_whatever_the_umask(place: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert write_cached("kind/name", b"data")
        assert user_secret() is not None
    finally:
        os.umask(before)
    assert read_cached("kind/name", 100) == b"data"
    for path in (place, place / "kind", place / "kind" / "name", place / "key"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@POSIX
@pytest.mark.parametrize("shared", ["", "kind", "kind/name"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_to_is_not_read_which_is_said_once(
    place: Path, shared: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_cached("kind/name", b"data")
    (place / shared).chmod(0o700 | mode)
    assert read_cached("kind/name", 100) is None
    assert read_cached("kind/name", 100) is None
    (line,) = caplog.messages
    assert f"{place / shared} is not used" in line
    assert f"chmod go-w {place / shared}" in line


@POSIX
@pytest.mark.parametrize("shared", ["", "kind"])
def test_nothing_is_written_where_others_may_write(place: Path, shared: str) -> None:
    write_cached("kind/name", b"data")
    (place / shared).chmod(0o770)
    assert not write_cached("kind/name", b"other")
    assert (place / "kind" / "name").read_bytes() == b"data"


@POSIX
@pytest.mark.parametrize("foreign", ["", "kind", "kind/name", "key"])
def test_what_belongs_to_somebody_else_is_not_used(
    place: Path, foreign: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_cached("kind/name", b"data")
    known = user_secret()
    theirs = (place / foreign).stat().st_ino
    mine = user_cache._check

    def check(path: Path, found: os.stat_result, forbidden: int) -> None:
        if found.st_ino == theirs:
            found = os.stat_result((*found[:4], found.st_uid + 1, *found[5:]))
        mine(path, found, forbidden)

    monkeypatch.setattr(user_cache, "_check", check)
    if foreign == "key":
        assert user_secret() != known
    else:
        assert read_cached("kind/name", 100) is None
    assert f"{place / foreign} is not used as a cache: it belongs to user" in caplog.messages[0]


@POSIX
def test_a_link_or_a_pipe_in_the_cache_is_not_opened(place: Path) -> None:
    write_cached("kind/name", b"data")
    (place / "kind" / "link").symlink_to(place / "kind" / "name")
    os.mkfifo(place / "kind" / "pipe")
    assert read_cached("kind/link", 100) is None
    assert read_cached("kind/pipe", 100) is None
    assert write_cached("kind/pipe", b"data"), "a pipe is replaced, not written to"
    assert read_cached("kind/pipe", 100) == b"data"


def test_the_secret_stays_the_same_and_a_cut_one_is_replaced(place: Path) -> None:
    first = user_secret()
    assert first is not None
    assert len(first) == 32
    assert user_secret() == first
    (place / "key").write_bytes(first[:-1])
    second = user_secret()
    assert second is not None
    assert second[:31] != first[:31]


def test_there_is_no_secret_without_a_place_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vit-edge").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_secret() is None


@POSIX
def test_a_program_that_logs_nothing_says_one_line_on_standard_error(place: Path) -> None:
    write_cached("name", b"data")
    place.chmod(0o777)
    code = "from vit_edge.runtime.device.user_cache import read_cached as r; r('name', 9); r('name', 9)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr == (
        f"vit-edge: note: {place} is not used as a cache: others may write to it; run: chmod go-w {place}\n"
    )
