"""Python with Ray, Spark and Daft, which tests start where it is there."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.engines.catalogue import default_cache

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = "pip_ray-2.60.0_daft-0.7.26_pyspark-4.3.0"  # with pandas, pyarrow and what vit_edge needs
PYTHON = default_cache() / PACKAGES / "bin" / "python"
NEEDED = (
    f"needs Ray: an environment {default_cache() / PACKAGES} with ray[data]==2.60.0 and what vit-edge needs"
)

with_ray = pytest.mark.skipif(not PYTHON.exists(), reason=NEEDED)


def environment(**more: str) -> dict[str, str]:
    """This process's, without what names a cluster."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return known | {"PYTHONPATH": str(ROOT)} | more


def on(words: Sequence[str], cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """A command in a folder, with more in its environment."""
    return subprocess.run(
        words, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False, timeout=240
    )
