"""The self-tests of many devices read together: groups, failures, and files that are no report."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vit_edge import plain
from vit_edge.cli import main
from vit_edge.errors import UsageError
from vit_edge.manifest import Machine
from vit_edge.runtime.selftest.check import Check, Measured, Report
from vit_edge.runtime.selftest.fleet import MOST_BYTES, read_fleet
from vit_edge.spec import Arithmetic

Output = pytest.CaptureFixture[str]
Edit = Callable[[dict[str, Any]], object]

CPU = "CPUExecutionProvider"
PI = Machine("Cortex-A76", 4, ("dotprod",), "Debian aarch64", "3.11.7", "1.32.0")
PC = Machine("Celeron N4000", 2, (), "Debian x86_64", "3.11.7", "1.32.0")
GOOD = Check("files", True, "9 files")
BAD = Check("answers of onnx/model.onnx", False, "off by 3", "use another")


def report(
    machine: Machine = PI, ms: float = 20.0, checks: tuple[Check, ...] = (GOOD,), **changes: Any
) -> Report:
    measured = Measured("onnx/model.onnx", CPU, {CPU: 1.0}, 1, ms, ms + 1, 10.0)
    passed = all(check.passed for check in checks)
    made = Report(passed, checks, machine, "vit", "a" * 64, "0.1.0", Arithmetic.EXACT, measured)
    return dataclasses.replace(made, **changes)


def put(folder: Path, name: str, content: Report | object) -> Path:
    raw = plain.of(content) if isinstance(content, Report) else content
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Three boards of one kind, one of which fails, and a PC that saturates."""
    folder = tmp_path / "reports"
    put(folder, "kitchen.json", report(ms=20.0))
    put(folder, "hall.json", report(ms=26.5))
    put(folder, "upstairs/attic.json", report(ms=21.0, checks=(GOOD, BAD)))
    put(folder, "office.json", report(PC, 90.0, arithmetic=Arithmetic.SATURATING))
    put(folder, "notes.txt", "no report, and not asked for")
    put(folder, ".hidden.json", "{")
    return folder


def test_devices_of_one_kind_are_one_group(reports: Path) -> None:
    fleet = read_fleet([reports])
    assert (fleet.reports, fleet.passed, fleet.copies, fleet.unread) == (4, 3, 0, ())
    pc, pi = fleet.groups
    assert (pc.cpu, pc.arithmetic, pc.devices, pc.min_ms) == (
        "Celeron N4000",
        Arithmetic.SATURATING,
        ("office",),
        (90.0, 90.0),
    )
    assert (sorted(pi.devices), pi.passed, pi.min_ms) == (["attic", "hall", "kitchen"], 2, (20.0, 26.5))


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest_sha256": "b" * 64},
        {"bundle": "other"},
        {"arithmetic": None},
        {"measured": None},
        {"machine": dataclasses.replace(PI, onnxruntime="1.24.4")},
        {"machine": dataclasses.replace(PI, flags=("dotprod", "i8mm"))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_differs_in_a_cause_is_another_group(tmp_path: Path, changes: dict[str, Any]) -> None:
    put(tmp_path, "a.json", report())
    put(tmp_path, "b.json", dataclasses.replace(report(), **changes))
    assert [group.devices for group in read_fleet([tmp_path]).groups] in ([("a",), ("b",)], [("b",), ("a",)])


def test_a_copy_counts_once_and_is_said(reports: Path, capsys: Output) -> None:
    put(reports, "copy.json", report(ms=20.0))
    assert read_fleet([reports]).copies == 1
    main(["fleet", str(reports)])
    assert "3 of 4 devices pass, 1 copies not counted" in capsys.readouterr().out


def test_a_file_named_twice_is_read_once(reports: Path) -> None:
    assert read_fleet([reports, reports / "hall.json", reports]).reports == 4


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for room in ("one", "two"):
        put(tmp_path, f"{room}/device.json", report(ms=len(room) + ord(room[0])))
    (group,) = read_fleet([tmp_path]).groups
    assert [Path(name).parts[-2:] for name in group.devices] == [("one", "device"), ("two", "device")]


def test_the_table_and_the_failures_are_shown(reports: Path, capsys: Output) -> None:
    assert main(["fleet", str(reports)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vit (aaaaaaaaaaaa)"
    assert lines[2].split("  ")[0] == "Celeron N4000"
    assert "saturating" in lines[2]
    assert "20.00 to 26.50 ms" in lines[3]
    assert lines[4] == "attic: answers of onnx/model.onnx: off by 3; use another"
    assert lines[5] == "3 of 4 devices pass"


def test_a_failure_of_many_devices_is_one_line(tmp_path: Path, capsys: Output) -> None:
    for number in range(20):
        put(tmp_path, f"d{number:02}.json", report(ms=number + 1.0, checks=(BAD,)))
    main(["fleet", str(tmp_path)])
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "off by 3" in each]
    assert line.startswith("d00, d01, ")
    assert " and 8 more: " in line


def test_all_that_passes_is_status_0(tmp_path: Path, capsys: Output) -> None:
    put(tmp_path, "a.json", report())
    assert main(["fleet", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 devices pass\n")


def test_json_holds_all_of_it(reports: Path, tmp_path: Path) -> None:
    assert main(["fleet", str(reports), "--json", str(tmp_path / "fleet.json")]) == 1
    raw = json.loads((tmp_path / "fleet.json").read_text())
    assert raw.keys() == {"reports", "passed", "copies", "groups", "failures", "unread"}
    assert raw["groups"][0]["arithmetic"] == "saturating"
    assert raw["failures"][0] == {"device": "attic", "check": BAD.name, "found": "off by 3", "mend": BAD.mend}


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path, capsys: Output) -> None:
    old = plain.of(report())
    for key in ("bundle", "manifest_sha256", "vit_edge", "arithmetic", "measured"):
        del old[key]
    put(tmp_path, "old.json", old)
    assert main(["fleet", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "a bundle that is not named (of unknown content)" in out
    assert "not timed" in out


def test_a_key_of_a_later_version_is_skipped(tmp_path: Path) -> None:
    put(tmp_path, "new.json", plain.of(report()) | {"temperature": 61})
    assert read_fleet([tmp_path]).unread == ()


BROKEN: dict[str, tuple[object, str]] = {
    "no JSON": ("{", "is not valid JSON"),
    "a list": ([], "the report must be an object"),
    "another file of ours": ({"n": 500, "verdict": "PASS"}, "the report lacks"),
    "passed is text": (plain.of(report()) | {"passed": "yes"}, "passed must be"),
    "it contradicts itself": (plain.of(report()) | {"passed": False}, "contradicts itself"),
    "a hash that is none": (plain.of(report()) | {"manifest_sha256": "x"}, "manifest_sha256"),
    "too large": ('"' + "x" * MOST_BYTES + '"', f"larger than {MOST_BYTES} bytes"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_report_is_named_and_the_rest_read(
    reports: Path, capsys: Output, kind: str
) -> None:
    content, message = BROKEN[kind]
    put(reports, "broken.json", content)
    assert main(["fleet", str(reports)]) == 2
    out = capsys.readouterr().out
    assert "broken.json is no report: " in out
    assert message in out
    assert "3 of 4 devices pass" in out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent", "is not there"),
        (lambda folder: folder, "holds no file that ends in .json"),
    ],
)
def test_nothing_to_read_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], message: str, capsys: Output
) -> None:
    with pytest.raises(UsageError, match=message):
        read_fleet([make(tmp_path)])
    assert main(["fleet", str(make(tmp_path))]) == 2
    assert message in capsys.readouterr().err


def test_control_characters_of_a_report_do_not_reach_the_terminal(tmp_path: Path, capsys: Output) -> None:
    evil = dataclasses.replace(BAD, found="off\x1b[2J by 3", mend="line\nPASS")
    put(tmp_path, "a.json", report(checks=(evil,), bundle="v\x1b[1mit"))
    main(["fleet", str(tmp_path)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nPASS" not in out
