"""The engine with coverage: atheris (libFuzzer), one process per target.

Usage of the process itself: python -m tools.fuzz.guided TARGET LIBFUZZER_ARGUMENT ...
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.fuzz.report import INPUT_SECONDS, MEMORY_MB, Report

LONGEST_INPUT = 16_384  # bytes; larger seeds are cut


def fuzz(name: str, runs: int, seconds: float, findings: Path) -> Report:
    """Feed one target in a process of its own; an input that breaks it is kept in the folder.

    Args:
        name: one of TARGETS.
        runs: at most so many inputs.
        seconds: at most so long.
        findings: existing folder.
    """
    from tools.fuzz.targets import TARGETS

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as corpus:
        for index, seed in enumerate(TARGETS[name].seeds()):
            (Path(corpus) / f"{index:04}").write_bytes(seed)
        arguments = [
            f"-runs={runs}",
            f"-max_total_time={max(1, round(seconds))}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={LONGEST_INPUT}",
            f"-artifact_prefix={findings}/{name}-",
            "-print_final_stats=1",
            corpus,
        ]
        child = subprocess.run(
            [sys.executable, "-m", "tools.fuzz.guided", name, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    inputs, peak = (_figure(child.stderr, key) for key in ("number_of_executed_units", "peak_rss_mb"))
    finding = None if child.returncode == 0 else _finding(child.stdout + child.stderr, child.returncode)
    return Report(name, "guided", inputs, time.monotonic() - began, peak, finding)


def _figure(text: str, key: str) -> int:
    found = re.search(rf"stat::{key}:\s*(\d+)", text)
    return int(found[1]) if found else 0


def _finding(text: str, status: int) -> str:
    """The exception, or what libFuzzer says, and where the input lies."""
    lines = text.splitlines()
    cause = [
        line for line in lines if re.match(r"\w[\w.]*(Error|Exception|Hang)\b|==\d+== ERROR|ALARM", line)
    ]
    kept = [line for line in lines if "Test unit written to" in line]
    return "; ".join([*(cause[:1] or [f"exit status {status}"]), *kept[-1:]])


def main() -> None:
    """Be the process."""
    import atheris

    with atheris.instrument_imports(include=["vit_edge"]):
        from tools.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
