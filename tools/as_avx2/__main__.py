"""Runs a command as a CPU with AVX2 alone would: its real kernels, at this machine's speed.

Usage: python -m tools.as_avx2 [--package NAME|PATH ...] COMMAND ...

onnxruntime and OpenVINO choose their kernels by what the instruction `cpuid` says, and have no option for it.
Here they get copies of their libraries in which that instruction traps and is answered without AVX-512, VNNI
and AMX; /proc/cpuinfo says the same, and that it was done. Both are bind mounts that only the command and its
children see. So what AVX2 kernels answer (they add pairs of products in int16) and how fast they are against
each other is seen on a newer machine; an older one differs in caches and clock. PyTorch keeps to its AVX2
kernels by a variable of its own. What the command starts must keep LD_PRELOAD in its environment, and cannot
be a sanitizer or another emulator.

Needs Linux on x86-64, root, and objdump, cc, unshare and mount.
"""

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.as_avx2.libraries import default_cache, shared_libraries, trapping
from vit_edge.errors import UsageError

PACKAGES = ("onnxruntime", "openvino", "vit_edge_kernels")
HIDDEN = re.compile(r"avx512\w*|avx_vnni\w*|amx_\w+|avx_ifma|avx10\w*")  # flags of /proc/cpuinfo
NOTE = ", AVX-512 and VNNI hidden"  # behind the name of the CPU, so that every figure bears it
TORCH = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SHIM = Path(__file__).with_name("cpuid.c")


def main(words: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        if not given.command:
            raise UsageError("name a command, such as `pytest`, behind the options")
        reason = missing()
        if reason is not None:
            raise UsageError(reason)
        places = [place for name in given.package or PACKAGES for place in found(name, bool(given.package))]
        with tempfile.TemporaryDirectory(prefix="as-avx2-") as folder:
            over = hidden(places, Path(folder), given.cache)
            shim = built(Path(folder))
            environment = os.environ | TORCH | {"LD_PRELOAD": str(shim)}
            status = subprocess.run(within(over, given.command), env=environment, check=False).returncode
            return status if status >= 0 else 128 - status  # by a signal, as shells tell it
    except (UsageError, OSError) as error:
        print(f"as_avx2: {error}", file=sys.stderr)
        return 2


def missing() -> str | None:
    """Why this machine cannot do it; None where it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "needs Linux on x86-64"
    absent = [name for name in ("objdump", "cc", "unshare", "mount") if shutil.which(name) is None]
    if absent:
        return f"needs {absent[0]} (Debian: binutils, gcc, util-linux)"
    alone = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return None if alone.returncode == 0 else "needs root, for mounts that only the command sees"


def found(name: str, asked: bool) -> list[Path]:
    """Folders of a package of this interpreter, or a path; none where one that was not asked for is absent.

    Raises:
        UsageError: there is none of that name.
    """
    if Path(name).exists():
        return [Path(name).resolve()]
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is not None and spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    if asked:
        raise UsageError(f"--package {name} is neither a package of this Python nor a path")
    return []


def hidden(places: Iterable[Path], folder: Path, cache: Path) -> dict[Path, Path]:
    """What is mounted over what."""
    copies = {library: trapping(library, cache) for library in shared_libraries(places)}
    info = folder / "cpuinfo"
    info.write_text(without_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8")), encoding="utf-8")
    return {library: copy for library, copy in copies.items() if copy is not None} | {
        Path("/proc/cpuinfo"): info
    }


def without_flags(text: str) -> str:
    """/proc/cpuinfo of a CPU without AVX-512, VNNI and AMX, whose name tells that they are hidden."""
    lines = []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            value = " " + " ".join(flag for flag in value.split() if not HIDDEN.fullmatch(flag))
        elif name.strip() == "model name":
            value += NOTE
        lines.append(f"{name}:{value}" if value else line)
    return "".join(f"{line}\n" for line in lines)


def built(folder: Path) -> Path:
    """The library that answers.

    Raises:
        UsageError: the compiler fails.
    """
    out = folder / "cpuid.so"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(SHIM), "-o", str(out)]
    done = subprocess.run([*command, "-ldl"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"cc does not build {SHIM}: {done.stderr.strip().splitlines()[-1]}")
    return out


def within(over: Mapping[Path, Path], command: Sequence[str]) -> list[str]:
    """The words that run a command where each file is hidden by another one."""
    script = 'set -e\nwhile [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done\nshift\nexec "$@"'
    pairs = [str(path) for place, copy in over.items() for path in (copy, place)]
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        *pairs,
        "--",
        *command,
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="as_avx2", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--package",
        action="append",
        metavar="NAME",
        help=f"whose libraries are made to believe it, or a path; default: {', '.join(PACKAGES)}",
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="of copies")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
