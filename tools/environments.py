"""An environment of its own for each tool that is looked at: made once, or the reason why it cannot be."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vit_edge.errors import UsageError
from vit_edge.runtime.device.user_cache import cache_folder


def cache_of(tool: str) -> Path:
    """Where a tool keeps what takes long to make: the user's cache, or `build` without a home."""
    return (cache_folder() or Path("build")) / tool


def run(command: Sequence[str], environment: dict[str, str], timeout_s: float | None = None) -> None:
    """Run a program silently.

    Raises:
        UsageError: it failed or took too long, with the line that says why.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{name} took longer than {timeout_s:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()
        errors = [
            line for line in said if line.startswith("ERROR: ")
        ]  # pip's, whose last one names a page to read
        reason = errors[0].removeprefix("ERROR: ") if errors else said[-1]
        raise UsageError(f"{name} failed with status {done.returncode}: {reason}")


def make_venv(
    place: Path,
    packages: Sequence[str],
    environment: dict[str, str],
    constraints: Path | None = None,
    timeout_s: float | None = None,
) -> None:
    """A virtual environment of this Python with packages of pip in it.

    Raises:
        UsageError: pip failed or took too long, with the line that says why.
    """
    run([sys.executable, "-m", "venv", str(place)], environment)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["--no-compile"]  # most of what is installed is never imported
    limits = [] if constraints is None else ["-c", str(constraints)]
    run([*pip, *limits, *packages], environment, timeout_s)
