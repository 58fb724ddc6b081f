"""What latency figures depend on: the processor, the system, the runtime's version. Never a host name."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import onnxruntime

from vit_edge.manifest import Machine

# Instruction sets that decide which integer kernel onnxruntime runs
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})  # integer products are added in int32
RELEVANT_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


def describe_machine() -> Machine:
    """Describe this machine; complete on Linux, and as far as the standard library tells elsewhere."""
    name, flags = parse_cpuinfo(_text("/proc/cpuinfo"))
    board = _text("/proc/device-tree/model").rstrip("\0").strip()  # Arm boards: no model name in cpuinfo
    return Machine(
        cpu=name or board or platform.processor() or platform.machine() or "unknown",
        cores=usable_cores(),
        flags=flags,
        system=f"{_system()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=str(onnxruntime.__version__),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Model name and relevant flags out of Linux's `/proc/cpuinfo`; empty where it does not say.

    The flags are those that all cores have: a core without one would stop the kernel that needs it.
    """
    names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    shared = shared_flags(text)
    return names[0].strip() if names else "", tuple(flag for flag in RELEVANT_FLAGS if flag in shared)


def shared_flags(text: str) -> frozenset[str]:
    """Every flag that all cores have, out of Linux's `/proc/cpuinfo`; empty where it does not say."""
    per_core = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    cores = [frozenset(core.split()) for core in per_core]
    return frozenset.intersection(*cores) if cores else frozenset()


def cpu_flags() -> frozenset[str]:
    """Every CPU flag of this machine; empty where the system does not tell, as outside Linux."""
    return shared_flags(_text("/proc/cpuinfo"))


def may_saturate() -> bool:
    """Whether this CPU may add pairs of uint8 x int8 products in int16: x86-64 not known to have VNNI."""
    return platform.machine().lower() in ("x86_64", "amd64") and not _VNNI & cpu_flags()


def version_of(distribution: str) -> str | None:
    """The installed version; None where it is not installed as a package."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}".strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
