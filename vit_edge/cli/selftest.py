"""`selftest`: does a bundle work on this device as it did where it was built?"""

import argparse
from pathlib import Path

from vit_edge.cli import arguments
from vit_edge.cli.console import check_json, table, write_json
from vit_edge.cli.parser import Commands
from vit_edge.runtime.selftest.check import Check, SelfTest
from vit_edge.runtime.selftest.run import selftest

_WORDS = {True: "ok", False: "FAIL", None: "-"}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "selftest", help="check a bundle on this device: files, answers, provider, speed"
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        dest="models",
        metavar="NAME",
        help="a model of the bundle, such as onnx/model.onnx; may be repeated (default: all)",
    )
    parser.add_argument(
        "--provider",
        default="auto",
        metavar="NAME",
        help="execution provider (default: the first that works)",
    )
    arguments.add_trust(parser)
    arguments.add_json(parser, "the checks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge selftest`; 0 if no check fails, 1 if one does."""
    check_json(args.json)
    result = selftest(args.bundle, args.provider, args.models, trust=args.trust)
    write_json(args.json, result.to_json())
    print(summary(result))
    return 0 if result.passed else 1


def summary(result: SelfTest) -> str:
    """One row per check, what to do about each failure, and the verdict."""
    rows = [["check", "", "found"]]
    rows += [[check.name, _WORDS[check.passed], check.found] for check in result.checks]
    failed = [check for check in result.checks if check.passed is False]
    lines = [table(rows), *(f"{check.name}: {check.mend}" for check in failed if check.mend)]
    verdict = "PASS" if result.passed else f"FAIL ({_named(failed)})"
    return "\n".join([*lines, f"{result.bundle}: {verdict}"])


def _named(checks: list[Check]) -> str:
    return ", ".join(check.name for check in checks)
