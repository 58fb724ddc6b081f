"""Files are read within bounds and written whole or not at all; nothing but files is ever opened."""

import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vit_edge.fields import MAX_VALUES, parse_json
from vit_edge.files import (
    draft_beside,
    exchange,
    owned,
    put_in_place,
    read_file,
    recover,
    replace,
    scratch_folder,
    write_file,
)

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")


def make_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def device(_path: Path) -> Path:
    return Path("/dev/zero")


# Reading


@POSIX
@pytest.mark.parametrize("make", [make_pipe, make_socket, device, Path.mkdir])
@pytest.mark.parametrize("through", ["its name", "a link"])
def test_what_is_no_file_is_never_opened(
    tmp_path: Path, make: Callable[[Path], Path | None], through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "x") or tmp_path / "x"
    if through == "a link":
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    monkeypatch.setattr(os, "open", lambda *_args: pytest.fail("it was opened"))
    with pytest.raises(OSError, match="no regular file"):
        read_file(path, 100)


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_file(tmp_path / "x", 4)


def test_a_file_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)  # sparse: takes no room on disk
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="larger than"):
            read_file(tmp_path / "x", 2**31)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["missing", "nul\0byte"])
def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"No such file|no name that a file can have"):
        read_file(tmp_path / name, 100)


@pytest.mark.parametrize("text", ["[" + "[]," * 500_000 + "[]]", '{"a":' * 3 + "{}" + "," * MAX_VALUES])
def test_json_that_would_take_thirty_times_its_length_is_refused_before_it_is_read(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"it is not valid JSON .more than 1000000 values"):
            parse_json(text, "it")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_json_of_as_many_values_as_a_large_model_has_labels_is_read() -> None:
    labels = ["a, b"] * 100_000
    assert parse_json(str(labels).replace("'", '"'), "it") == labels


# Writing


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_through_a_link_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_bytes(b"old")
    (tmp_path / "link").symlink_to(Path("there") / "x")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "x").read_bytes() == b"new"


def test_through_a_link_to_nothing_its_target_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"new"


@POSIX
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    path = make_pipe(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_file(path, b"x" * 200_000)  # more than a pipe holds
    reader.join()
    assert got == [b"x" * 200_000]
    assert path.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    """Where everybody may write to /dev, as root may, a draft must not take its place."""
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    for path in (link, Path("/dev/full")):
        with pytest.raises(OSError, match="No space left"):
            write_file(path, b"x")
    assert Path("/dev/full").is_char_device()
    write_file("/dev/null", b"x")
    assert Path("/dev/null").is_char_device()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path, b"x")


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "x", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


# What the dead leave behind

_HOLD = """
import sys, time
from pathlib import Path
from vit_edge.files import draft_beside, scratch_folder
with draft_beside(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as draft, scratch_folder() as folder:
    print(draft, folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is nobody else's."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def start(tmp_path: Path, temporary: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def run(kind: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", _HOLD, str(tmp_path / "x"), kind]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@POSIX
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_by_the_next_and_what_a_living_one_has_is_kept(
    tmp_path: Path, start: Callable[[str], "subprocess.Popen[str]"], kind: str
) -> None:
    process = start(kind)
    assert process.stdout is not None
    held = [Path(name) for name in process.stdout.readline().split()]
    write_file(tmp_path / "x", b"")
    with scratch_folder():
        assert [path.exists() for path in held] == [True, True]
    process.kill()
    process.wait()
    write_file(tmp_path / "x", b"")
    with scratch_folder():
        assert [path.exists() for path in held] == [False, False]


@pytest.mark.parametrize("name", ["vit-edge-notes", "vit-edge-0123456789abcdef.tmp.bak", "vit-edge-abc.tmp"])
def test_what_only_looks_like_a_temporary_folder_is_kept(temporary: Path, name: str) -> None:
    (temporary / name).mkdir()
    with scratch_folder():
        pass
    assert (temporary / name).is_dir()


@POSIX
def test_a_link_that_is_called_like_a_temporary_folder_is_not_followed(
    temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    (temporary / f"vit-edge-{0:016}.tmp").symlink_to(tmp_path / "thesis")
    with scratch_folder():
        pass
    assert (tmp_path / "thesis" / "thesis.txt").exists()


def test_a_temporary_folder_is_its_owners_alone_and_gone_afterwards(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == temporary
        assert os.name != "posix" or folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_text("x")
    assert list(temporary.iterdir()) == []


def test_where_there_are_no_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "_lock", lambda _path: None)
    ages = {tmp_path / f".x.{index:016}.tmp": age for index, age in enumerate((10, 7200))}
    for path, age in ages.items():
        path.write_bytes(b"")
        os.utime(path, (time.time() - age,) * 2)
    write_file(tmp_path / "x", b"")
    assert [path.exists() for path in ages] == [True, False]


def test_a_draft_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = owned._lock, []

    def late(path: Path) -> int | None:
        calls.append(path)
        if len(calls) == 1:
            path.unlink()
        return lock(path)

    monkeypatch.setattr(owned, "_lock", late)
    with draft_beside(tmp_path / "x") as draft:
        assert draft.exists()
    assert len(set(calls)) == 2


# Exchanging


def folders(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    return one, other


def test_two_folders_change_places_at_once(tmp_path: Path) -> None:
    one, other = folders(tmp_path)
    if not exchange(one, other):
        pytest.skip("this system cannot exchange names")
    assert [(one / "name").read_text(), (other / "name").read_text()] == ["other", "one"]


@pytest.mark.parametrize("able", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    if not able:
        monkeypatch.setattr(replace, "_exchanger", lambda: None)
    one, other = folders(tmp_path)
    put_in_place(one, other)
    assert [(one / "name").read_text(), (other / "name").read_text()] == ["other", "one"]


def test_what_cannot_be_exchanged_stays(tmp_path: Path) -> None:
    one, other = folders(tmp_path)
    if not exchange(one, other):
        pytest.skip("this system cannot exchange names")
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "missing", other)


def test_of_what_was_put_aside_the_newest_comes_back(tmp_path: Path) -> None:
    for index, age in enumerate((100, 10, 1000)):
        folder = tmp_path / f".x.{index:016}.old"
        folder.mkdir()
        (folder / "age").write_text(str(age))
        os.utime(folder, (time.time() - age,) * 2)
    assert recover(tmp_path / "x")
    assert (tmp_path / "x" / "age").read_text() == "10"


def test_nothing_comes_back_where_nothing_was(tmp_path: Path) -> None:
    began = time.monotonic()
    assert not recover(tmp_path / "x")
    assert time.monotonic() - began < 2  # it does not wait either
