"""The gate as a test in JUnit XML, the form that CI servers show."""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_edge.cli.console import one_line
from vit_edge.gate_report import GateReport
from vit_edge.spec import Verdict
from vit_edge.verify.judged import Judged, failure


def junit_xml(report: GateReport, quant: Path, seconds: float) -> str:
    """One test suite with one test; UNDECIDED is a failure that says how many images would decide.

    Args:
        report: of the gate.
        quant: the model judged.
        seconds: that the comparison took.
    """
    title = f"{quant} for {Judged.of(report).claim}"
    failed = None if report.verdict is Verdict.PASS else failure(report)
    return suite_xml(_properties(report), [Check(title, report.verdict, failed)], seconds)


@dataclasses.dataclass(frozen=True)
class Check:
    """One test of a suite."""

    title: str
    verdict: Verdict
    failure: str | None
    """Why it is no PASS."""


def suite_xml(properties: Mapping[str, str], checks: Sequence[Check], seconds: float) -> str:
    """One test suite.

    Args:
        properties: the figures.
        checks: its tests.
        seconds: that all of them took.
    """
    failed = sum(check.failure is not None for check in checks)
    counts = {"tests": str(len(checks)), "failures": str(failed), "errors": "0", "skipped": "0"}
    time = {"time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", counts | time)
    suite = ET.SubElement(root, "testsuite", {"name": "vit-edge compare"} | counts | time)
    listed = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(listed, "property", {"name": name, "value": value})
    for check in checks:
        names = {"classname": "vit_edge.compare", "name": one_line(check.title)}
        case = ET.SubElement(suite, "testcase", names | time)
        if check.failure is not None:
            told = {"type": check.verdict.value, "message": check.failure}
            ET.SubElement(case, "failure", told).text = check.failure
    ET.indent(root)
    return ET.tostring(root, "unicode", xml_declaration=False) + "\n"


def _properties(report: GateReport) -> dict[str, str]:
    """The figures of `--json`, without those that are None or lists of objects."""
    raw = report.to_json()
    figures = raw | raw["evidence"] | raw["evidence"]["tolerance"]
    figures |= {
        f"{name}_{end}": limit
        for name in ("drop_ci95", "disagreement_ci95")
        for end, limit in zip(("low", "high"), figures[name] or (), strict=False)
    }
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in figures.items()
        if isinstance(value, str | int | float)
    }
