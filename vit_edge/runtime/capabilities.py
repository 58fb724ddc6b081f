"""What this machine is, which targets fit it, and why the others do not."""

import dataclasses
import functools
import platform
from collections.abc import Callable, Iterable

from vit_edge.errors import ProviderError, TargetError
from vit_edge.runtime.device.machine import cpu_flags
from vit_edge.runtime.model.own_kernels import NotHere, check_kernels
from vit_edge.runtime.session.providers import find_provider
from vit_edge.spec import GraphStyle, Packaging, ProviderSpec, TargetSpec

FindProvider = Callable[[str, ProviderSpec], object]  # raises ProviderError where there is none


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What targets may ask of a machine."""

    system: str  # as platform.system() calls it
    architecture: str  # as platform.machine() calls it, in lower case
    flags: frozenset[str]  # of its CPU; empty where the system does not tell

    def __str__(self) -> str:
        return f"{self.system} on {self.architecture}"


@dataclasses.dataclass(frozen=True)
class Fit:
    """Whether a target's files run here."""

    target: TargetSpec
    reasons: tuple[str, ...]  # why not; empty where they do

    @property
    def available(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons


@functools.cache
def this_machine() -> Capabilities:
    """Looked up once."""
    return Capabilities(platform.system(), platform.machine().lower(), cpu_flags())


def fit_of(target: TargetSpec, machine: Capabilities, find: FindProvider = find_provider) -> Fit:
    """Compare a target with a machine; the provider is looked up on this one, if nothing else is amiss.

    Args:
        target: what is asked for.
        machine: what there is.
        find: how a provider is looked up; raises ProviderError with the reason why there is none.
    """
    provider = target.provider
    reasons = _unmet(target, machine)
    if provider.packaging is Packaging.ELSEWHERE:
        reasons.append(provider.install)
    if reasons:
        return Fit(target, tuple(reasons))
    try:
        find(provider.name, provider)
        if target.form.style is GraphStyle.NATIVE:
            check_kernels()
    except (ProviderError, NotHere) as error:
        return Fit(target, (str(error),))
    return Fit(target, ())


def choose_target(
    targets: Iterable[TargetSpec], machine: Capabilities, find: FindProvider = find_provider
) -> tuple[TargetSpec, str]:
    """The target of highest priority that fits a machine, and why it was taken.

    Targets of priority 0 are taken only where they are named.

    Raises:
        TargetError: none fits.
    """
    wanted = sorted((target for target in targets if target.priority), key=lambda target: -target.priority)
    passed: list[str] = []
    for target in wanted:
        fit = fit_of(target, machine, find)
        if fit.available:
            because = "; ".join([f"the best that fits {machine}{_asked(target, machine)}", *passed])
            return target, because
        passed.append(f"{target.name} passed over: {fit.reasons[0]}")
    raise TargetError(f"no target fits {machine} ({'; '.join(passed) or 'there is none to choose from'})")


def _unmet(target: TargetSpec, machine: Capabilities) -> list[str]:
    asked = target.requires
    unmet = []
    if asked.systems and machine.system not in asked.systems:
        unmet.append(f"for {_either(asked.systems)}, and this is {machine.system}")
    if asked.architectures and machine.architecture not in asked.architectures:
        unmet.append(f"for {_either(asked.architectures)}, and this is {machine.architecture}")
        return unmet  # flags of another architecture's CPUs would only be noise
    missing = [flag for flag in asked.flags_all if flag not in machine.flags]
    any_of = asked.flags_any
    if any_of and not machine.flags.intersection(any_of):
        missing.append(_either(any_of))
    if missing:
        absent = "no CPU flag" if machine.flags else "this system does not tell CPU flags; needed is"
        unmet.append(f"{absent} {', '.join(missing)}")
    return unmet


def _asked(target: TargetSpec, machine: Capabilities) -> str:
    """The CPU flags that decided, for a sentence."""
    flags = [
        flag for flag in (*target.requires.flags_all, *target.requires.flags_any) if flag in machine.flags
    ]
    return f" with {', '.join(flags)}" if flags else ""


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)
