"""Blocks of instructions that one inference executes on an emulated core, and how often.

The root is that of `tools.arm64_parity`. Its emulator is linked statically and takes no plugins, so the
machine's own qemu-aarch64 is laid beside it, with the libraries that it needs.
"""

import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.arm64_parity.emulator import TIMEOUT_S, Core, RunFailedError, copy_package, job_folder, pretend
from tools.arm64_parity.root import SITE, ensure_root, locked, python_of, run
from tools.arm64_parity.root import missing as missing_root
from tools.arm_prediction.networks import LARGEST_WEIGHTS
from vit_edge.errors import UsageError

Runs = Mapping[str, int]  # instructions of a block, eight hexadecimal digits each -> times it ran

EMULATOR = "qemu-aarch64"
NCNN = "1.0.20221128"  # nearest to the published figures
_SOURCE = Path(__file__).with_name("counter.c")
_WITH_NCNN, _WITH_ONNX, _WITH_ORT = (
    _SOURCE.with_name(f"on_device_{engine}.py") for engine in ("ncnn", "onnx", "ort")
)
_HOST = Path("opt/counter")
_QUIET = ("OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "PYTHONHASHSEED=0", "ORT_DISABLE_TELEMETRY=1")
# onnxruntime reads the clock as each operator starts and ends; so many readings there are up to the first
# start, and after the last end.
_READ_FIRST, _READ_AFTER = 4, 6
_TRIES = 3


@dataclasses.dataclass(frozen=True)
class Section:
    """What ran until the clock was read, or until counting ended."""

    runs: Runs
    clock: bool


@dataclasses.dataclass(frozen=True)
class Inference:
    """One inference of an ONNX file."""

    runs: Runs
    operators: Mapping[str, Runs]
    """By the operator's type, from a second run that also recorded onnxruntime's profile."""


def missing() -> str | None:
    """Why nothing can be counted here; None where it can."""
    reason = missing_root()
    if reason:
        return f"an arm64 root file system {reason}"
    lacking = {EMULATOR: "qemu-user", "cc": "gcc"}
    absent = [package for tool, package in lacking.items() if shutil.which(tool) is None]
    return f"needs Debian's {', '.join(absent)}; run: apt-get install {' '.join(absent)}" if absent else None


def ensure_counter(cache: Path) -> Path:
    """The root, with emulator, plugin and ncnn beside onnxruntime; set up on first use.

    Raises:
        UsageError: a tool is absent, or something cannot be built or fetched.
    """
    reason = missing()
    if reason:
        raise UsageError(f"counting instructions {reason}")
    root = ensure_root(cache)
    with locked(root):
        place = root / _HOST
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        emulator = str(shutil.which(EMULATOR))
        for library in [emulator, *_libraries(run(["ldd", emulator]))]:
            shutil.copy2(library, place)
        build_plugin(place / "counter.so")
        _ensure_ncnn(root)
    return root


def _libraries(said: str) -> list[str]:
    """Paths of the libraries that ldd lists."""
    return re.findall(r"(/\S+) \(0x", said)


def build_plugin(target: Path) -> None:
    """Compile the plugin.

    Raises:
        UsageError: the compiler fails.
    """
    run(["cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", str(_SOURCE), "-o", str(target)])


def _ensure_ncnn(root: Path) -> None:
    place = root / _ncnn_site()
    if place.is_dir():
        return
    python = python_of(root)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", "manylinux2014_aarch64", "--implementation", "cp"]
    run([*command, "--python-version", python, "--target", str(place), f"ncnn=={NCNN}"])


def _ncnn_site() -> Path:
    return Path(f"opt/ncnn-{NCNN}")


def count_onnx(root: Path, core: Core, model: Path) -> Inference:
    """One warm inference by onnxruntime, one thread, as `Session` sets it up.

    Raises:
        RunFailedError: it failed there, or the profile and the sections do not fit each other.
    """
    plain, _ = _count_onnx(root, core, model, "plain")
    for _ in range(_TRIES):
        sections, ran = _count_onnx(root, core, model, "profile")
        operators = by_operator(sections, ran)
        if operators is not None:
            return Inference(total(plain), operators)
    raise RunFailedError(f"{model}: the clock was not read twice for each operator of onnxruntime's profile")


def by_operator(sections: Sequence[Section], ran: Sequence[str]) -> dict[str, Runs] | None:
    """What each type of operator executed; None where sections and operators do not fit each other.

    Args:
        sections: of a run that recorded onnxruntime's profile.
        ran: the operators' types, in order.
    """
    read = [section for section in sections if section.clock]
    if len(read) != _READ_FIRST + 2 * len(ran) - 1 + _READ_AFTER:
        return None
    found: dict[str, Counter[str]] = {}
    for number, kind in enumerate(ran):
        found.setdefault(kind, Counter()).update(read[_READ_FIRST + 2 * number].runs)
    return dict(found)


def total(sections: Iterable[Section]) -> Runs:
    """All sections together."""
    found: Counter[str] = Counter()
    for section in sections:
        found.update(section.runs)
    return found


def count_ncnn(root: Path, core: Core, network: str) -> Runs:
    """One warm inference of a network by ncnn, one thread.

    Raises:
        RunFailedError: it failed there.
    """
    with job_folder(root) as place:
        (place / "network.param").write_text(network, encoding="ascii")
        with (place / "weights.bin").open("wb") as weights:
            weights.truncate(LARGEST_WEIGHTS)  # zeros that take no space
        path = f"/{_ncnn_site()}:/{SITE}"
        sections, _ = _count(root, core, place, _WITH_NCNN, ("network.param", "weights.bin"), path)
    return total(sections)


def count_plain(root: Path, core: Core, model: Path) -> Runs:
    """One warm inference of any ONNX file by onnxruntime, one thread.

    Raises:
        RunFailedError: it failed there.
    """
    with job_folder(root) as place:
        shutil.copy2(model, place / "model.onnx")
        sections, _ = _count(root, core, place, _WITH_ORT, ("model.onnx",), f"/{SITE}")
    return total(sections)


def _count_onnx(root: Path, core: Core, model: Path, how: str) -> tuple[list[Section], list[str]]:
    with job_folder(root) as place:
        copy_package(place)
        shutil.copy2(model, place / "model.onnx")
        path = f"/{place.name}/package:/{SITE}"
        return _count(root, core, place, _WITH_ONNX, ("model.onnx", how), path)


def _count(
    root: Path, core: Core, place: Path, script: Path, words: Sequence[str], python_path: str
) -> tuple[list[Section], list[str]]:
    pretend(root, core)
    shutil.copy2(script, place / "script.py")
    seen, host = Path("/") / place.name, Path("/") / _HOST
    told = [str(seen / word) if (place / word).exists() else word for word in words]
    command = ["chroot", str(root), *_started(root, host), "-cpu", core.name]
    command += ["-plugin", f"{host / 'counter.so'},out={seen / 'counts.txt'}"]
    for setting in (*_QUIET, f"PYTHONPATH={python_path}"):
        command += ["-E", setting]
    command += [
        f"/usr/bin/python{python_of(root)}",
        "-B",
        str(seen / "script.py"),
        *told,
        str(seen / "ran.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        said = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        raise RunFailedError(f"{script.stem} on {core.name} ended with status {done.returncode}: {said}")
    with (place / "counts.txt").open(encoding="ascii") as counts:
        return read_sections(counts), json.loads((place / "ran.json").read_text(encoding="utf-8"))


@functools.cache
def _started(root: Path, host: Path) -> tuple[str, ...]:
    """The emulator through the loader that was copied with it: the root has none for this machine."""
    (loader,) = (path.name for path in (root / _HOST).glob("ld-linux*"))
    return str(host / loader), "--library-path", str(host), str(host / EMULATOR)


def read_sections(lines: Iterable[str]) -> list[Section]:
    """What the plugin wrote.

    Raises:
        RunFailedError: it is cut short, or not of the plugin's form.
    """
    blocks: dict[str, str] = {}
    found: list[Section] = []
    runs: Counter[str] = Counter()
    kind = ""
    for line in lines:
        kind, *words = line.split()
        if kind == "B" and len(words) == 2:
            blocks[words[0]] = words[1]
        elif kind == "C" and len(words) == 2 and words[0] in blocks:
            runs[blocks[words[0]]] += int(words[1])
        elif kind in ("S", "E") and not words:
            found.append(Section(runs, kind == "S"))
            runs = Counter()
        else:
            raise RunFailedError(f"the counter wrote {line.strip()!r}, which is not of its form")
    if kind != "E":
        raise RunFailedError("the counter's file does not come to its end: the script was not marked twice")
    return found
