"""Files, pipes and signals of the command line: nothing is destroyed, nothing is left, nothing is shouted."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vit_edge.bundle import FileEntry, Manifest, Role, SourceRecord, write_bundle
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "data" / "dynamic.onnx"
IMAGE = ROOT / "tests" / "hostile" / "images" / "animated.png"
COMMAND = shlex.join([sys.executable, "-W", "error", "-m", "vit_edge"])

pytestmark = pytest.mark.skipif(not Path("/bin/bash").exists(), reason="what shells and signals do is POSIX")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    half = (0.5, 0.5, 0.5)
    files = {"onnx/model.onnx": MODEL.read_bytes()}
    manifest = Manifest(
        files={name: FileEntry.of(data, Role.FLOAT) for name, data in files.items()},
        default_model="onnx/model.onnx",
        preprocess=PreprocessSpec(8, 8, ResizeMode.NONE, (8, 8), Interpolation.BICUBIC, half, half),
        source=SourceRecord("example", "0" * 64),
        tools={},
    )
    return write_bundle(tmp_path / "bundle", files, manifest).path


def shell(words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Runs `vit-edge ...` by a shell, in whose line `vit-edge` stands for it."""
    line = words.replace("vit-edge", COMMAND, 1)
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    return done


def test_a_file_for_standard_output_has_it_to_itself(bundle: Path) -> None:
    done = shell(f"vit-edge selftest {bundle} --json -", 0)
    assert json.loads(done.stdout)["passed"] is True
    assert "PASS" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_is_not_replaced_by_a_file(bundle: Path) -> None:
    done = shell(f"vit-edge selftest {bundle} --json /dev/full", 2)
    assert done.stderr == "vit-edge: error: --json /dev/full cannot be written (No space left on device)\n"
    assert Path("/dev/full").is_char_device()


def test_through_a_link_the_file_is_written(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("figures.json")
    shell(f"vit-edge selftest {bundle} --json {tmp_path / 'link.json'}")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "figures.json").read_text())["passed"] is True


def test_embeddings_go_down_a_pipe() -> None:
    model = ROOT / "tests" / "data" / "embedder.onnx"
    read = "import io, sys, numpy; print(sorted(numpy.load(io.BytesIO(sys.stdin.buffer.read()))))"
    done = shell(f"vit-edge embed {model} {IMAGE} -o - | {sys.executable} -c {shlex.quote(read)}")
    assert done.stdout.strip() == "['cls', 'images', 'patches', 'pooled']"


def test_a_bundle_is_no_stream() -> None:
    assert "a folder cannot go to standard output" in shell("vit-edge build x --calib y -o -", 2).stderr


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_no_error(closing: str) -> None:
    assert "error" not in shell(f"vit-edge classify {MODEL} {IMAGE} {closing}").stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    images = " ".join([str(IMAGE.relative_to(ROOT))] * 1500)
    done = shell(f"set -o pipefail; vit-edge classify {MODEL} {images} | head -n 1", 141)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_line() -> None:
    done = shell(f"vit-edge classify {MODEL} {IMAGE} > /dev/full", 2)
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


_WAIT = """
import sys, time
import vit_edge.runtime.selftest.run
from vit_edge.files import scratch_folder
def wait(*_, **__):
    with scratch_folder() as folder:
        print(folder, flush=True)
        time.sleep(60)
import vit_edge.cli.selftest
vit_edge.cli.selftest.selftest = wait
from vit_edge.cli import main
sys.exit(main(["selftest", "x"]))
"""


@contextlib.contextmanager
def _signals_as_usual() -> Iterator[None]:
    """For what is started meanwhile: what ignores a signal, as `nohup` does, hands that on."""
    every = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    kept = {each: signal.signal(each, signal.SIG_DFL) for each in every}
    try:
        yield
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_it_with_one_line_and_no_temporary_folder(name: str) -> None:
    words = [sys.executable, "-c", _WAIT]
    pipe = subprocess.PIPE
    with (
        _signals_as_usual(),
        subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process,
    ):
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(signal.Signals[name])
        _, error = process.communicate(timeout=60)
    said = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert error == f"vit-edge: {said}\n"
    assert process.returncode == 128 + signal.Signals[name]
    assert not folder.exists()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    code = (
        "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "import vit_edge.cli.targets as t; from vit_edge.cli import main\n"
        "run = t.overview\n"
        "t.overview = lambda fits: (os.kill(os.getpid(), signal.SIGHUP), run(fits))[1]\n"
        "raise SystemExit(main(['targets']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where", ["calibration", "check"])
def test_a_pipe_among_the_images_is_one_message_and_no_hang(tmp_path: Path, where: str) -> None:
    images = tmp_path / where
    images.mkdir()
    os.mkfifo(images / "pipe.png")
    began = time.monotonic()
    if where == "check":
        done = shell(f"vit-edge compare {MODEL} {MODEL} --self --data {images}", 2)
        assert "holds no image" in done.stderr
    else:
        done = shell(f"vit-edge classify {MODEL} {images}/pipe.png", 2)
        assert done.stderr.count("pipe.png") == 1
    assert time.monotonic() - began < 60
