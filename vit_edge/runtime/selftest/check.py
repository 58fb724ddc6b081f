"""What a self-test says: one thing that was looked at, and all of them."""

import dataclasses
from pathlib import Path
from typing import Any

from vit_edge.manifest import Machine


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool | None  # None: there was nothing to judge by, `found` says why
    found: str
    mend: str | None = None  # what to do about a failure

    def to_json(self) -> dict[str, Any]:
        """The stable keys of one entry of `checks`."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """All checks of one bundle on one device."""

    bundle: Path
    checks: tuple[Check, ...]
    machine: Machine

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge selftest --json`."""
        return {
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
            "machine": self.machine.to_json(),
        }
