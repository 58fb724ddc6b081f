"""Collects what was looked for: every pitfall ends as found, clear or not checked."""

import dataclasses
from collections.abc import Iterable, Sequence

from vit_edge.diagnosis import Code, Diagnosis, Finding, NotChecked, Severity

_ORDER = list(Severity)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is examined, and on what."""

    model: str
    images: int
    """Distinct ones."""
    labelled: bool


class Examination:
    """Grows while the parts of an examination report to it."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._looked: set[Code] = set()
        self._skipped: dict[Code, str] = {}

    def looked(self, codes: Iterable[Code], findings: Sequence[Finding] = ()) -> None:
        """Pitfalls that were looked for, and what was found of them."""
        self._looked |= set(codes)
        self.findings += findings

    def skip(self, codes: Iterable[Code], reason: str) -> None:
        """Pitfalls that cannot be looked for; what another part has looked for stays so."""
        for code in codes:
            self._skipped.setdefault(code, reason)

    def finished(self, subject: Subject, tests: int, error: float) -> Diagnosis:
        """All of it; a pitfall of which no part has spoken is not checked."""
        found = {each.code for each in self.findings}
        rest = [code for code in Code if code not in self._looked | found]
        return Diagnosis(
            model=subject.model,
            images=subject.images,
            labelled=subject.labelled,
            findings=tuple(sorted(self.findings, key=lambda each: _ORDER.index(each.severity))),
            not_checked=tuple(
                NotChecked(
                    code, self._skipped.get(code, "needs the host packages: pip install 'vit-edge[host]'")
                )
                for code in rest
            ),
            tests=tests,
            error=error,
        )
