"""Which compilers there are a driver for, and what one makes of a target's file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vit_edge.errors import UsageError
from vit_edge.host.compilers import rockchip
from vit_edge.host.compilers.job import CompilerJob
from vit_edge.manifest import CompiledRecord
from vit_edge.spec import TargetSpec

OPTION = "--compiler"

Version = Callable[[Path, str], str]  # (interpreter, option that named it) -> the compiler's
Build = Callable[[CompilerJob, str], tuple[bytes, CompiledRecord]]  # (what, version) -> what was made

_DRIVERS: dict[str, tuple[Version, Build]] = {rockchip.PACKAGE: (rockchip.toolkit_version, rockchip.build)}


def compiles_for(target: TargetSpec) -> bool:
    """Whether there is a driver for the compiler of a target."""
    return target.provider.package in _DRIVERS and target.quantized_by_compiler


def check_compiler(python: Path, targets: Sequence[TargetSpec]) -> None:
    """Refuse a compiler that is not there, or that none of the targets has.

    Args:
        python: the interpreter of its environment.
        targets: of the build.

    Raises:
        UsageError: names the option.
    """
    packages = {target.provider.package for target in targets if compiles_for(target)}
    if not packages:
        known = " or ".join(_DRIVERS)
        raise UsageError(
            f"{OPTION} goes with a --target that {known} compiles for (see `vit-edge targets`): name one, or "
            f"leave {OPTION} out"
        )
    for package in sorted(packages):
        _DRIVERS[package][0](python, OPTION)


def compiled(job: CompilerJob) -> tuple[bytes, CompiledRecord]:
    """What a target's compiler makes of its file, and what it says of that.

    Raises:
        UsageError: it fails.
    """
    version, build = _DRIVERS[job.target.provider.package]
    return build(job, version(job.python, OPTION))
