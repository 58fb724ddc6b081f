"""Running a model touches no network and leaves nothing behind, as the system's calls show."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "tests" / "data" / "dynamic.onnx"
STRACE = shutil.which("strace")

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def traced(home: Path, trace: str, *words: str) -> str:
    """Run Python with a home of its own; the system calls of it and of its children."""
    log = home.parent / "calls"
    environment = {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    command = [STRACE or "", "-f", "-qq", "-o", str(log), "-e", f"trace={trace}", sys.executable, *words]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=home.parent, check=False, timeout=120
    )
    if "ptrace" in result.stderr and not log.read_text().strip():
        pytest.skip("this system does not let strace watch a process")
    assert result.returncode == 0, result.stderr
    return log.read_text(errors="replace")


def sockets(calls: str) -> list[str]:
    """Calls that could reach another machine; a Unix socket cannot."""
    families = r"\b(socket|connect|sendto|bind)\(.*(AF_INET|AF_INET6|AF_PACKET)"
    return [line for line in calls.splitlines() if re.search(families, line)]


@needs_strace
def test_classifying_opens_no_socket_and_leaves_the_home_as_it_was(home: Path, image: Path) -> None:
    calls = traced(home, "%network", "-m", "vit_edge", "classify", str(MODEL), str(image))
    assert sockets(calls) == []
    assert list(home.rglob("*")) == []


@needs_strace
def test_the_watch_sees_a_socket(home: Path) -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()"
    assert sockets(traced(home, "%network", "-c", code))


@needs_strace
def test_classifying_writes_no_file_at_all(home: Path, image: Path) -> None:
    words = ["-B", "-m", "vit_edge", "classify", str(MODEL), str(image)]  # -B: no byte code of the modules
    calls = traced(home, "openat,creat,mkdir,mkdirat,rename,renameat,unlink", *words)
    writing = [
        line
        for line in calls.splitlines()
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT|\b(mkdir|mkdirat|rename|renameat|creat)\(", line)
        and not re.search(r'"/(dev|proc|sys)/', line)
    ]
    assert writing == []


@needs_strace
def test_classifying_starts_no_other_program(home: Path, image: Path) -> None:
    calls = traced(home, "execve", "-m", "vit_edge", "classify", str(MODEL), str(image))
    started = [line for line in calls.splitlines() if "execve(" in line and "= 0" in line]
    assert len(started) == 1  # Python itself
