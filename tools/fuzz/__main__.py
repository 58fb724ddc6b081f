"""Fuzz the readers of everything that comes from outside.

Usage: python -m tools.fuzz TARGET [--seconds N] [--runs N] [--engine guided|drawn] [--findings DIR]

TARGET is decode, decode_any, manifest, bundle, onnx, target or all; the limits are per target. Mutation
begins with the files in tests/hostile. An input that crashes, takes longer than 10 s, more than 1000
MB, or raises anything but one of our errors is a finding: the exit status is 1, and `guided` keeps it in DIR.
`guided` needs `pip install 'vit-edge[fuzz]'`.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from tools.fuzz import drawn, guided
from tools.fuzz.report import Report
from tools.fuzz.targets import TARGETS


def main(argv: list[str] | None = None) -> int:
    """Fuzz and print one line per target."""
    args = _arguments(argv)
    findings = args.findings or Path(tempfile.mkdtemp(prefix="vit-edge-findings-"))
    findings.mkdir(parents=True, exist_ok=True)
    engine = args.engine or ("guided" if importlib.util.find_spec("atheris") else "drawn")
    reports: list[Report] = []
    for name in TARGETS if args.target == "all" else [args.target]:
        if engine == "guided":
            report = guided.fuzz(name, args.runs, args.seconds, findings)
        else:
            report = drawn.fuzz(name, args.runs, args.seconds)
        print(report, flush=True)
        reports.append(report)
    print(f"{sum(report.inputs for report in reports):,} inputs in all")
    return int(any(report.finding for report in reports))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description="Fuzz what reads foreign input."
    )
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60, help="per target (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1_000_000, help="per target (default: %(default)s)")
    parser.add_argument(
        "--engine", choices=["guided", "drawn"], help="default: guided where atheris is there"
    )
    parser.add_argument("--findings", type=Path, metavar="DIR", help="where inputs that break something go")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
