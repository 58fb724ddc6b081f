"""One Python script in an aarch64 root, on an emulated Arm core.

The root gets a `/proc/cpuinfo` and CPU folders of the emulated core, as onnxruntime reads them to choose its
kernels; real ones would describe the machine that emulates. The root is entered with chroot: an emulator that
only redirects paths lets onnxruntime read that machine's CPU caches, and crash.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vit_edge
from tools.arm64_parity import on_device
from tools.arm64_parity.root import EMULATOR, SITE, locked, python_of
from vit_edge.arrays import Float64
from vit_edge.errors import VitEdgeError

Answers = dict[str, Any]  # what on_device writes

TIMEOUT_S = 3600.0
CORES = 2


@dataclasses.dataclass(frozen=True)
class Core:
    """An Arm core that the emulator knows."""

    name: str  # as the emulator calls it
    part: int  # as /proc/cpuinfo says it
    features: str
    example: str  # a board that has it


CORES_TESTED = (
    Core("cortex-a72", 0xD08, "fp asimd evtstrm crc32 cpuid", "Raspberry Pi 4; no dot product"),
    Core(
        "cortex-a76",
        0xD0B,
        "fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        "Raspberry Pi 5; with dot product",
    ),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """Images through one model file."""

    model: Path
    images: Sequence[Path]


def logits_of(answers: Answers) -> Float64:
    """(images, classes), bit for bit what the session gave."""
    return np.asarray([[float.fromhex(value) for value in row] for row in answers["logits"]])


def version_of(emulator: str) -> str:
    """Name and version of an installed emulator."""
    said = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\S+)", said)
    return f"{emulator} {version[1] if version else 'of unknown version'}"


class RunFailedError(VitEdgeError, RuntimeError):
    """The script did not come to its end on the emulated core."""


def run_here(job: Job, launcher: Sequence[str] = ()) -> Answers:
    """The same script on this machine, with this Python.

    Args:
        job: images and model.
        launcher: words in front of it, such as those of an emulator of another x86-64 processor.

    Raises:
        RunFailedError: the script failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inside = _laid_out(place, job, place)
        return _run([*launcher, sys.executable], inside, place, {"PYTHONPATH": str(place / "package")})


def run_emulated(root: Path, core: Core, job: Job) -> Answers:
    """The answers of an emulated core.

    Raises:
        RunFailedError: the script failed there.
    """
    with job_folder(root) as place:
        pretend(root, core)
        seen = Path("/") / place.name  # as seen from within the root
        inside = _laid_out(place, job, seen)
        python = ["chroot", str(root), f"/usr/bin/{EMULATOR}", "-cpu", core.name]
        python += ["-E", f"PYTHONPATH={seen / 'package'}:/{SITE}", f"/usr/bin/python{python_of(root)}", "-B"]
        return _run(python, inside, place, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


@contextlib.contextmanager
def job_folder(root: Path) -> Iterator[Path]:
    """A folder in the root for one job, while no other works there."""
    with locked(root), tempfile.TemporaryDirectory(prefix="job-", dir=root) as folder:
        yield Path(folder)


def copy_package(place: Path) -> None:
    """The device's part of vit_edge, into `place / "package"`."""
    package = Path(vit_edge.__file__).parent
    shutil.copytree(package, place / "package/vit_edge", ignore=shutil.ignore_patterns("__pycache__", "host"))


def _laid_out(place: Path, job: Job, seen: Path) -> list[str]:
    """Copy package, script, model and images to `place`; the script's words, with paths below `seen`."""
    copy_package(place)
    shutil.copy2(on_device.__file__, place / "on_device.py")
    shutil.copy2(job.model, place / "model.onnx")
    (place / "images").mkdir()
    listed = []
    for i, image in enumerate(job.images):
        name = f"images/{i:05d}{image.suffix}"
        shutil.copy2(image, place / name)
        listed.append(f"{seen / name}\n")
    (place / "images.txt").write_text("".join(listed), encoding="utf-8")
    return [str(seen / name) for name in ("on_device.py", "model.onnx", "images.txt", "answer.json")]


def _run(python: Sequence[str], words: Sequence[str], place: Path, environment: Mapping[str, str]) -> Answers:
    command = [*python, *words]
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode:
        said = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        raise RunFailedError(f"{' '.join(python[:5])} ended with status {done.returncode}: {said}")
    answer: Answers = json.loads((place / "answer.json").read_text(encoding="utf-8"))
    return answer


def pretend(root: Path, core: Core) -> None:
    """Write what onnxruntime reads about the processor."""
    lines = [
        "BogoMIPS\t: 108.00",
        f"Features\t: {core.features}",
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
        "CPU variant\t: 0x0",
        f"CPU part\t: {core.part:#x}",
        "CPU revision\t: 3",
    ]
    blocks = ["\n".join([f"processor\t: {i}", *lines]) + "\n" for i in range(CORES)]
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("\n".join(blocks), encoding="ascii")
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (folder / name).write_text(f"0-{CORES - 1}\n", encoding="ascii")
    (folder / "kernel_max").write_text(f"{CORES - 1}\n", encoding="ascii")
