"""What a self-test says: one thing that was looked at, all of them, and the figures behind them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from vit_edge import __version__, plain
from vit_edge.manifest import Machine
from vit_edge.plain import Mark
from vit_edge.spec import Arithmetic


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool | None
    """None: there was nothing to judge by, `found` says why."""
    found: str
    mend: str | None = None
    """What to do about a failure."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """How the model that runs by default ran on this device."""

    model: str
    """Path in the bundle."""
    provider: str
    """Execution provider that was asked to run it."""
    shares: Mapping[str, float]
    """Of its nodes, 0 to 1, by execution provider; empty where onnxruntime does not tell."""
    threads: int | None
    """None: left to onnxruntime."""
    min_ms: float
    """Of one image, as every figure here."""
    median_ms: float
    recorded_min_ms: float | None
    """Where the bundle was built; None: the bundle has no figure."""


@dataclasses.dataclass(frozen=True)
class Report:
    """A self-test as `vit-edge selftest --json` writes it and `vit-edge fleet` reads it.

    What an earlier version did not write may be absent.
    """

    passed: bool
    checks: tuple[Check, ...]
    machine: Machine
    bundle: Annotated[str, Mark.ABSENT] = ""
    """The name of its folder."""
    manifest_sha256: Annotated[str | None, Mark.ABSENT, Mark.SHA256] = None
    """Which tells bundles of one name apart."""
    vit_edge: Annotated[str, Mark.ABSENT] = ""
    """The version that made the test."""
    arithmetic: Annotated[Arithmetic | None, Mark.ABSENT] = None
    """How the device adds integer products; None: neither way, or it was not found out."""
    measured: Annotated[Measured | None, Mark.ABSENT] = None
    """None: the default model was not timed."""


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """All checks of one bundle on one device."""

    bundle: Path
    manifest_sha256: str
    checks: tuple[Check, ...]
    machine: Machine
    arithmetic: Arithmetic | None
    """How the device adds integer products; None: neither way, or it was not found out."""
    measured: Measured | None
    """None: the default model was not timed."""

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    @property
    def report(self) -> Report:
        """What is collected from many devices."""
        return Report(
            self.passed,
            self.checks,
            self.machine,
            self.bundle.resolve().name,
            self.manifest_sha256,
            __version__,
            self.arithmetic,
            self.measured,
        )

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge selftest --json`."""
        raw: dict[str, Any] = plain.of(self.report)
        return raw
