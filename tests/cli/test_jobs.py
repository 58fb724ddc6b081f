"""Folders as a job: a row per image whatever happens, no row lost or twice after a kill, shards that join."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge import Classifier, Embedder
from vit_edge.cli import main
from vit_edge.cli.jobs import Rate, duration, rate_line
from vit_edge.runtime.job.names import Shard

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "tests" / "data" / "dynamic.onnx")  # classes ant, bee and cat
EMBEDDER = str(ROOT / "tests" / "data" / "embedder.onnx")  # D = 6, a grid of 2 x 2
ODD = 'bad,"x"\nline.png'  # a name that CSV has to quote

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images in two levels, one that is none, one hidden and one text file."""
    random = np.random.default_rng(7)
    below = tmp_path / "in" / "below"
    below.mkdir(parents=True)
    for index in range(9):
        place = below if index % 2 else below.parent
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(place / f"{index}.png")
    (below / ODD).write_bytes(b"no image")
    (below / ".hidden.png").write_bytes(b"no image")
    (below / "notes.txt").write_bytes(b"no image")
    return below.parent


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(path: Path) -> list[object]:
    return [row["image"] for row in rows(path)]


def classify(*words: str | Path) -> int:
    return main(["classify", TINY, *map(str, words)])


def refused(words: Sequence[object], capsys: Output) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vit-edge: error: ")
    assert err.count("\n") == 1
    assert "internal error" not in err
    return err


def test_every_image_of_a_folder_has_a_row_with_the_classifiers_answer(folder: Path, tmp_path: Path) -> None:
    assert classify("--dir", folder, "-o", tmp_path / "r.jsonl", "--top", "2") == 2  # one is no image
    found = rows(tmp_path / "r.jsonl")
    assert [Path(str(row["image"])).name for row in found] == [
        *("0.png", "2.png", "4.png", "6.png", "8.png"),
        *("1.png", "3.png", "5.png", "7.png", ODD),
    ]
    one = Classifier(TINY)
    for row in found[:-1]:
        assert row["error"] is None
        expected = [
            {"label": each.label, "score": each.score, "index": each.index}
            for each in one(str(row["image"]), top_k=2)
        ]
        assert row["predictions"] == expected
    assert "is no JPEG, PNG, WebP or BMP image" in str(found[-1]["error"])
    assert found[-1]["predictions"] == []


def test_csv_holds_the_same(folder: Path, tmp_path: Path) -> None:
    for form in ("jsonl", "csv"):
        assert classify(folder, "-o", tmp_path / f"r.{form}") == 2
    with (tmp_path / "r.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row, expected in zip(table, rows(tmp_path / "r.jsonl"), strict=True):
        assert (row["image"], row["error"]) == (expected["image"], expected["error"] or "")
        found = [
            {"label": row[f"label_{n}"], "score": float(row[f"score_{n}"]), "index": int(row[f"index_{n}"])}
            for n in (1, 2, 3)
            if row[f"label_{n}"]
        ]
        assert found == expected["predictions"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_wherever_a_run_was_killed_the_next_one_ends_with_the_same_file(
    folder: Path, tmp_path: Path, form: str
) -> None:
    """A kill leaves a file that ends anywhere: behind a row, within one, within the first line."""
    path = tmp_path / f"r.{form}"
    classify(folder, "-o", path)
    whole = path.read_bytes()
    first = whole.index(b"\n")
    for end in (
        0,
        1,
        first,
        first + 1,
        first + 2,
        len(whole) // 2,
        len(whole) - 300,
        len(whole) - 1,
        len(whole),
    ):
        path.write_bytes(whole[:end])
        assert classify(folder, "-o", path) == 2
        assert path.read_bytes() == whole, end


def test_an_array_is_put_right_wherever_its_two_files_ended(folder: Path, tmp_path: Path) -> None:
    path, ids = tmp_path / "r.npy", tmp_path / "r.npy.jsonl"
    words = ["embed", EMBEDDER, "--dir", str(folder), "-o", str(path), "--kind", "cls"]
    assert main(words) == 2
    array, listed = path.read_bytes(), ids.read_bytes()
    assert len(array) == 128 + 9 * 6 * 4
    embed = Embedder(EMBEDDER)
    good = [row["image"] for row in rows(ids) if row["error"] is None]
    expected = [embed(str(name)).cls for name in good]
    np.testing.assert_array_equal(np.load(path), expected)
    assert rows(ids)[-1].keys() == {"image", "error"}
    lines = listed.splitlines(keepends=True)
    for count in (0, 1, 5, 9, 10):  # a vector is written before its line, the header last
        for more in (0, 5, 24):
            cut = min(128 + 24 * min(count, 9) + more, len(array))
            path.write_bytes(array[:cut])
            ids.write_bytes(b"".join(lines[:count]) + (lines[count][:7] if count < len(lines) else b""))
            assert main(words) == 2
            assert (path.read_bytes(), ids.read_bytes()) == (array, listed)


def test_a_kind_with_a_grid_keeps_its_shape(folder: Path, tmp_path: Path) -> None:
    assert main(["embed", EMBEDDER, str(folder), "-o", str(tmp_path / "r.npy"), "--kind", "patches"]) == 2
    assert np.load(tmp_path / "r.npy").shape == (9, 2, 2, 6)


def test_several_processes_write_what_one_writes(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for index in range(40):  # more than one process is given at a time
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"more{index}.png")
    assert classify(folder, "-o", tmp_path / "one.jsonl", "--threads", "1") == 2
    assert classify(folder, "-o", tmp_path / "two.jsonl", "--workers", "2") == 2
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Many names of a picture that takes a while to read."""
    noise = np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    (tmp_path / "slow").mkdir()
    for index in range(120):
        (tmp_path / "slow" / f"{index:03}.png").symlink_to(tmp_path / "large.png")
    return tmp_path / "slow"


def started(slow: Path, results: Path, count: int) -> "subprocess.Popen[str]":
    """A job of two processes that has written some rows."""
    words = [sys.executable, "-m", "vit_edge", "classify", TINY, "--dir", str(slow), "-o", str(results)]
    job = subprocess.Popen([*words, "--workers", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for _ in range(3000):
        if results.exists() and results.read_bytes().count(b"\n") >= count:
            return job
        assert job.poll() is None
        time.sleep(0.02)
    raise AssertionError("no row was written")


def workers_of(job: "subprocess.Popen[str]") -> list[int]:
    """Its processes that hold a model."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find a job's workers")


@linux
def test_a_killed_job_leaves_no_worker_and_is_gone_on_with(slow: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    job = started(slow, results, 20)
    workers = workers_of(job)
    assert len(workers) == 2
    job.kill()
    job.communicate()
    for _ in range(1000):
        if not any(Path(f"/proc/{each}").exists() and _lives(each) for each in workers):
            break
        time.sleep(0.02)
    else:
        raise AssertionError("a worker outlives its job")
    assert 20 <= len(rows(results)) < 120
    assert classify("--dir", slow, "-o", results) == 0
    assert names(results) == [str(slow / f"{index:03}.png") for index in range(120)]


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_a_killed_worker_is_one_line_and_the_job_goes_on(slow: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    job = started(slow, results, 20)
    os.kill(workers_of(job)[0], signal.SIGKILL)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 2
    assert said.count("\n") == 1
    assert "a worker process ended by itself" in said
    assert "run the same command again to go on" in said
    assert classify("--dir", slow, "-o", results) == 0
    assert names(results) == [str(slow / f"{index:03}.png") for index in range(120)]


@pytest.mark.parametrize("form", ["r.jsonl", "r.csv", "r.npy", "r.parquet"])
def test_a_full_disk_is_one_line_and_what_is_there_is_whole(folder: Path, tmp_path: Path, form: str) -> None:
    """A limit on the size of files stands for the disk: the system writes up to it, then refuses."""
    if form == "r.parquet":
        pytest.importorskip("pyarrow")
    name, model = ("embed", EMBEDDER) if form == "r.npy" else ("classify", TINY)
    command = [
        sys.executable,
        "-m",
        "vit_edge",
        name,
        model,
        "--dir",
        str(folder),
        "-o",
        str(tmp_path / form),
    ]
    most = 1100

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=limited, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large); the rows that are there are whole" in done.stderr
    text = tmp_path / (f"{form}.jsonl" if form in ("r.npy", "r.parquet") else form)
    assert form != "r.parquet" or not (tmp_path / form).exists()  # made when every image has its row
    assert 0 < text.stat().st_size <= most
    assert text.read_bytes().endswith(b"\n")
    assert main(command[3:]) == 2
    assert main([*command[3:-1], str(tmp_path / f"fresh{form}")]) == 2
    assert text.read_bytes() == text.with_name(f"fresh{text.name}").read_bytes()
    assert (tmp_path / form).read_bytes() == (tmp_path / f"fresh{form}").read_bytes()


def test_shards_are_disjoint_complete_and_join_to_what_one_run_writes(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    assert classify(folder, "-o", tmp_path / "whole.jsonl") == 2
    parts = [tmp_path / f"{index}.jsonl" for index in (1, 2, 3)]
    for index, part in enumerate(parts, 1):
        assert classify(folder, "-o", part, "--shard", f"{index}/3") in (0, 2)
    assert all(rows(part) for part in parts)
    assert main(["merge", *map(str, parts), "-o", str(tmp_path / "all.jsonl")]) == 0
    assert "10 images, 1 errors" in capsys.readouterr().err
    assert sorted((tmp_path / "all.jsonl").read_text().splitlines()) == sorted(
        (tmp_path / "whole.jsonl").read_text().splitlines()
    )
    assert classify(folder, "-o", tmp_path / "all.jsonl") == 2  # there is nothing left to do


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_disk_that_is_full_leaves_nothing_of_what_is_joined(folder: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"{index}.jsonl" for index in (1, 2)]
    for index, part in enumerate(parts, 1):
        assert classify(folder, "-o", part, "--shard", f"{index}/2") in (0, 2)
    before = [part.read_bytes() for part in parts]
    target = tmp_path / "all.jsonl"
    limit = max(map(len, before)) + 1  # more than a part, less than both
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    words = ["merge", *map(str, parts), "-o", str(target)]
    program += f"from vit_edge.cli import main; raise SystemExit(main({words}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"vit-edge: error: {target} cannot be written (File too large); nothing is left of it and the parts "
        "are as they were: mend it and run the same command again\n"
    )
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(("all", "."))]
    assert [part.read_bytes() for part in parts] == before


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_share_does_not_depend_on_where_the_folder_lies_or_what_is_beside(count: int) -> None:
    shares = [Shard(index, count) for index in range(1, count + 1)]
    for name in ("a.png", "below/b.png", "é.png", "\udcff.png"):
        assert sum(share.takes(name) for share in shares) == 1


def test_a_row_in_two_parts_is_kept_once_and_differing_ones_are_refused(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    for name in ("a", "b"):
        assert classify(folder, "-o", tmp_path / f"{name}.csv") == 2
    words = ["merge", tmp_path / "a.csv", tmp_path / "b.csv", "-o", tmp_path / "all.csv"]
    assert main([str(word) for word in words]) == 0
    assert "10 images, 1 errors, 10 of them in more than one part" in capsys.readouterr().err
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    text = (tmp_path / "b.csv").read_text()
    (tmp_path / "b.csv").write_text(text.replace("ant", "bee", 1))
    (tmp_path / "all.csv").unlink()
    assert "b.csv has another row of" in refused(words, capsys)
    assert not (tmp_path / "all.csv").exists()


Spoil = Callable[[Path], object]


def _without(suffix: str) -> Spoil:
    return lambda path: path.with_name(path.name + suffix).unlink()


def _in_record(key: str, value: object) -> Spoil:
    def spoil(path: Path) -> None:
        record = path.with_name(path.name + ".job")
        record.write_text(json.dumps(json.loads(record.read_text()) | {key: value}))

    return spoil


def _line(number: int, text: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number] = text
        path.write_bytes(b"".join(lines))

    return spoil


@pytest.mark.parametrize(
    ("form", "spoil", "message"),
    [
        ("jsonl", _line(3, b"\x00\x00\x00\n"), "row 4 is damaged (it is no JSON)"),
        ("jsonl", _line(3, b'{"a": 1}\n'), "row 4 is damaged (it is no object with image and error)"),
        ("jsonl", lambda path: path.write_bytes(2 * path.read_bytes()), "has two rows of"),
        ("csv", _line(2, b"a,b\n"), "row 3 is damaged (it has 2 cells, not 11)"),
        ("csv", _line(0, b"path,label\n"), "does not begin as this job would have it"),
        ("jsonl", _without(".job"), "r.jsonl.job does not say what it is of; choose another output"),
        ("jsonl", _in_record("format_version", 2), "format version 2 is of a newer vit-edge"),
        ("jsonl", _in_record("model_sha256", "0" * 64), "holds the results of another job (model sha256"),
        (
            "jsonl",
            _in_record("settings", ["top=9"]),
            "holds the results of another job (settings top=9 there",
        ),
        ("jsonl", _in_record("shard", "1/2"), "(--shard 1/2 there, 1/1 here)"),
        ("jsonl", _in_record("base", "/elsewhere"), "its images were named from /elsewhere"),
        ("jsonl", _in_record("command", "train"), "command must be one of"),
    ],
)
def test_earlier_results_that_are_not_of_this_job_are_refused_and_stay(
    folder: Path, tmp_path: Path, form: str, spoil: Spoil, message: str, capsys: Output
) -> None:
    path = tmp_path / f"r.{form}"
    classify(folder, "-o", path)
    spoil(path)
    before = path.read_bytes()
    assert message in refused(["classify", TINY, folder, "-o", path], capsys)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "holds fewer rows than r.npy.jsonl names"),
        (lambda path: path.write_bytes(b"x" * 900), "is no array of this job"),
        (_without(".jsonl"), "r.npy.jsonl does not say what its rows are"),
    ],
)
def test_an_array_that_lost_rows_is_refused(
    folder: Path, tmp_path: Path, spoil: Spoil, message: str, capsys: Output
) -> None:
    words = ["embed", EMBEDDER, str(folder), "-o", str(tmp_path / "r.npy")]
    main(words)
    spoil(tmp_path / "r.npy")
    assert message in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "{at}/r.jsonl"], "the following arguments are required: IMAGE, or --dir, --glob or --list"),
        (["{in}", "-o", "{at}/r.txt"], "its name must end in .jsonl or .csv"),
        (["{in}", "-o", "-"], "its name must end in .jsonl or .csv"),
        (["{in}", "-o", "{at}/nowhere/r.csv"], "name a file in a folder that exists"),
        (["{in}", "-o", "{at}/r.csv", "--json"], "give one of them"),
        (["{in}", "--shard", "1/2"], "name it with -o"),
        (["{in}", "--workers", "2"], "name it with -o"),
        (["{in}", "-o", "{at}/r.csv", "--shard", "3/2"], "--shard 3/2 is no share"),
        (["{in}", "-o", "{at}/r.csv", "--shard", "half"], "give I/N, such as 2/8"),
        (["{in}", "-o", "{at}/r.csv", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["{in}", "-o", "{at}/r.csv", "--top", "0"], "--top must be at least 1, got 0"),
        (["{in}", "-o", "{at}/r.csv", "--file", "int8"], "is no bundle folder"),
        (["{in}", "-o", "{at}/r.csv", "--provider", "nonesuch"], "nonesuch"),
        (["--dir", "{at}/absent", "-o", "{at}/r.csv"], "absent is no folder"),
        (["--dir", "{in}", "--glob", "*.tif", "-o", "{at}/r.csv"], "holds no image that matches *.tif"),
        (["--list", "{at}/absent", "-o", "{at}/r.csv"], "absent cannot be read"),
        (["--list", os.devnull, "-o", "{at}/r.csv"], "the list names no image"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_file_is_made(
    folder: Path, tmp_path: Path, words: list[str], message: str, capsys: Output
) -> None:
    given = [word.format(**{"in": folder, "at": tmp_path}) for word in words]
    assert message in refused(["classify", TINY, *given], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("parts", "spoil", "message"),
    [
        (["a.jsonl", "absent.jsonl"], None, "absent.jsonl has no absent.jsonl.job"),
        (["a.jsonl", "a.csv"], None, "a.csv cannot become .jsonl"),
        (["a.jsonl", "all.jsonl"], None, "is one of the parts"),
        (["a.jsonl"], _in_record("rows", None), "is not finished; run its command again"),
        (["a.jsonl"], _in_record("shard", "1/3"), "shard 2/3 is missing (2 in all)"),
        (["a.jsonl"], _in_record("rows", 11), "a.jsonl has 10 rows, but 11 when it was finished"),
        (["a.jsonl", "b.jsonl"], _in_record("settings", ["top=9"]), "is of another job than"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    folder: Path, tmp_path: Path, parts: list[str], spoil: Spoil | None, message: str, capsys: Output
) -> None:
    for name in ("a.jsonl", "b.jsonl", "a.csv"):
        classify(folder, "-o", tmp_path / name)
    if spoil is not None:
        spoil(tmp_path / "a.jsonl")
    words = ["merge", *(tmp_path / part for part in parts), "-o", tmp_path / "all.jsonl"]
    assert message in refused(words, capsys)
    assert not (tmp_path / "all.jsonl").exists()


def test_a_second_process_on_the_same_results_is_refused(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "r.jsonl"
    classify(folder, "-o", path)
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "is being written by another process" in refused(
            ["classify", TINY, folder, "-o", path], capsys
        )


@pytest.mark.parametrize("separator", ["\n", "\0", "\r\n"])
def test_images_come_from_a_list_each_once(folder: Path, tmp_path: Path, separator: str) -> None:
    wanted = [str(folder / "4.png"), str(folder / "0.png")]
    (tmp_path / "list").write_bytes(separator.join([*wanted, wanted[0], ""]).encode())
    assert classify("--list", tmp_path / "list", "-o", tmp_path / "r.jsonl") == 0
    assert names(tmp_path / "r.jsonl") == wanted


def test_a_list_comes_through_standard_input(folder: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "vit_edge",
        "classify",
        TINY,
        "--list",
        "-",
        "-o",
        str(tmp_path / "r.jsonl"),
    ]
    given = f"{folder / '2.png'}\n"
    done = subprocess.run(words, input=given, cwd=ROOT, text=True, capture_output=True, check=True)
    assert names(tmp_path / "r.jsonl") == [str(folder / "2.png")]
    assert done.stderr.strip() == f"{tmp_path / 'r.jsonl'}: 1 images"


def test_patterns_choose_below_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--glob", "*.png", "--glob", "**/[3-9].png", "-o"]
    assert classify("--dir", folder, *words, tmp_path / "a.jsonl") == 0
    monkeypatch.chdir(folder)
    assert classify(*words, tmp_path / "b.jsonl") == 0
    expected = ["0.png", "2.png", "4.png", "6.png", "8.png", *(f"below/{index}.png" for index in (3, 5, 7))]
    assert names(tmp_path / "b.jsonl") == expected
    assert names(tmp_path / "a.jsonl") == [str(folder / name) for name in expected]


def test_a_folder_without_a_job_prints_every_image(folder: Path, capsys: Output) -> None:
    assert classify(folder, "--top", "1") == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 18
    assert err.count("\n") == 1


def test_progress_says_rate_and_time_left(capsys: Output) -> None:
    seconds = iter([0.0, 10.0, 40.0])
    rate = Rate("r.csv", clock=lambda: next(seconds))
    rate(50, 1000, 0)  # too soon to say more
    rate(200, 1000, 3)
    assert capsys.readouterr().err == "r.csv: 200/1000 images, 5.0 images/s, 3 min left, 3 errors\n"
    assert rate_line(0, 5, 0, 0.0) == "0/5 images, 0.0 images/s, time left unknown"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (150, "2 min"), (5400, "1.5 h"), (100_000, "27.8 h"), (270_000, "3.1 days")],
)
def test_durations_are_said_in_the_largest_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
