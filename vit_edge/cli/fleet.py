"""`fleet`: the self-tests of many devices, read together."""

import argparse
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from vit_edge import plain
from vit_edge.cli import arguments
from vit_edge.cli.console import check_json, one_line, table, write_json
from vit_edge.cli.parser import Commands
from vit_edge.runtime.selftest.fleet import Failure, Fleet, Group, read_fleet
from vit_edge.runtime.session.providers import short_name

_MOST = 12  # devices that are named for one failure; --json names all
_HEAD = ("CPU", "instructions", "onnxruntime", "runs on", "integer products", "at best", "passed")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("fleet", help="what many devices reported by selftest --json")
    parser.add_argument(
        "reports", metavar="REPORT", nargs="+", type=Path, help="file of selftest --json, or folder of them"
    )
    arguments.add_json(parser, "the groups and failures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge fleet`; 0 if every device passed, 1 if one failed, 2 if a file is no report."""
    check_json(args.json)
    found = read_fleet(args.reports)
    write_json(args.json, plain.of(found))
    print(summary(found))
    if found.unread:
        return 2
    return 0 if found.passed == found.reports else 1


def summary(fleet: Fleet) -> str:
    """A table per bundle, the failures with the devices they were seen on, and the count."""
    parts = []
    for (name, sha256), groups in groupby(fleet.groups, attrgetter("bundle", "manifest_sha256")):
        title = f"{name or 'a bundle that is not named'} ({sha256[:12] if sha256 else 'of unknown content'})"
        parts += [one_line(title), table([list(_HEAD), *map(_row, groups)])]
    parts += map(one_line, _failures(fleet.failures))
    parts += [one_line(f"{each.file} is no report: {each.reason}") for each in fleet.unread]
    copies = f", {fleet.copies} copies not counted" if fleet.copies else ""
    return "\n".join([*parts, f"{fleet.passed} of {fleet.reports} devices pass{copies}"])


def _row(group: Group) -> list[str]:
    best = "not timed"
    if group.min_ms is not None:
        least, most = group.min_ms
        best = f"{least:.2f} ms" if least == most else f"{least:.2f} to {most:.2f} ms"
    return [
        group.cpu,
        " ".join(group.flags) or "not told",
        group.onnxruntime,
        "not run" if group.provider is None else short_name(group.provider),
        "unknown" if group.arithmetic is None else group.arithmetic.value,
        best,
        f"{group.passed} of {len(group.devices)}",
    ]


def _failures(failures: Sequence[Failure]) -> list[str]:
    """One line for each kind, as a cause that many devices share is one cause."""
    kind = attrgetter("check", "found", "mend")
    lines = []
    for (check, found, mend), members in groupby(sorted(failures, key=lambda each: _text(kind(each))), kind):
        devices = [each.device for each in members]
        named = ", ".join(devices[:_MOST])
        more = f" and {len(devices) - _MOST} more" if len(devices) > _MOST else ""
        lines.append(f"{named}{more}: {check}: {found}" + (f"; {mend}" if mend else ""))
    return lines


def _text(kind: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(each or "" for each in kind)
