"""The gate as a test in JUnit XML, the form that CI servers show."""

import xml.etree.ElementTree as ET
from pathlib import Path

from vit_edge.cli.console import one_line
from vit_edge.cli.figures import claim, failure
from vit_edge.gate_report import GateReport
from vit_edge.spec import Verdict


def junit_xml(report: GateReport, quant: Path, seconds: float) -> str:
    """One test suite with one test; UNDECIDED is a failure that says how many images would decide.

    Args:
        report: of the gate.
        quant: the model judged.
        seconds: that the comparison took.
    """
    failed = report.verdict is not Verdict.PASS
    counts = {"tests": "1", "failures": str(int(failed)), "errors": "0", "skipped": "0"}
    time = {"time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", counts | time)
    suite = ET.SubElement(root, "testsuite", {"name": "vit-edge compare"} | counts | time)
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": name, "value": value})
    title = f"{quant} {claim(report)}"
    names = {"classname": "vit_edge.compare", "name": one_line(title)}
    case = ET.SubElement(suite, "testcase", names | time)
    if failed:
        message = failure(report)
        ET.SubElement(case, "failure", {"type": report.verdict.value, "message": message}).text = message
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
