"""Which installed distributions brought the package onnxruntime, and what two of them do to each other.

Every build of onnxruntime (onnxruntime, onnxruntime-gpu, onnxruntime-openvino, ...) is a wheel of its own
name that installs a package of the same name. pip lets two of them into one environment, where the later
one overwrites files of the earlier one and removing either breaks the other. Nothing here runs at import.
"""

import dataclasses
import functools
import importlib.metadata
import re

PACKAGE = "onnxruntime"
STOCK = "onnxruntime"


@dataclasses.dataclass(frozen=True)
class Wheel:
    """An installed distribution that owns the package onnxruntime."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def onnxruntime_wheels() -> tuple[Wheel, ...]:
    """The distributions that own the package onnxruntime, sorted by name; more than one is a fault.

    A plugin such as onnxruntime-qnn, or a package such as onnxruntime-extensions, owns another package and is
    none of them.
    """
    found: dict[str, Wheel] = {}
    for distribution in importlib.metadata.distributions():
        if _owns_onnxruntime(distribution):
            name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
            found.setdefault(name, Wheel(name, distribution.version))
    return tuple(found[name] for name in sorted(found))


@functools.cache
def wheel_clash() -> str | None:
    """One sentence on two onnxruntime wheels in this environment and the mend; None where there is one.

    The environment is read once per process, and not before something asks.
    """
    return describe_clash(onnxruntime_wheels())


def describe_clash(wheels: tuple[Wheel, ...]) -> str | None:
    """As `wheel_clash`, for the given wheels."""
    if len(wheels) < 2:
        return None
    names = [wheel.name for wheel in wheels]
    kept = next((name for name in names if name != STOCK), STOCK)
    return (
        f"{len(wheels)} onnxruntime wheels share this environment and overwrite each other's files "
        f"({', '.join(map(str, wheels))}); "
        f"run: pip uninstall -y {' '.join(names)} && pip install {kept}"
    )


def with_clash(message: str) -> str:
    """The message of an error that has to do with onnxruntime, and the clash where there is one."""
    clash = wheel_clash()
    return message if clash is None else f"{message}; {clash}"


def _owns_onnxruntime(distribution: importlib.metadata.Distribution) -> bool:
    record = distribution.read_text("RECORD")
    if record is not None:
        return re.search(rf"^{PACKAGE}/__init__\.py,", record, re.MULTILINE) is not None
    return PACKAGE in (distribution.read_text("top_level.txt") or "").split()
