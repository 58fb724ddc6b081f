"""The engines, and the environment of its own that each of them runs in."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.environments import cache_of, make_venv, run
from vit_edge.errors import UsageError

WORKERS = Path(__file__).resolve().parent / "workers"
_OLD_NUMPY = "numpy<2"  # releases of onnxruntime before 1.19 were built for it
_NODE_PACKAGES = ("onnxruntime-web@1.30.0", "onnxruntime-node@1.30.0")


@dataclasses.dataclass(frozen=True)
class Engine:
    """One engine in one environment.

    Args:
        name: of the row.
        worker: the file that runs it.
        packages: of pip, or of npm where `node` says so.
        node: whether the worker needs Node and npm's packages.
        program: a further program that it needs.
    """

    name: str
    worker: str
    packages: tuple[str, ...]
    node: bool = False
    program: str | None = None

    def place(self, cache: Path) -> Path:
        """The folder of its environment."""
        kind = "npm" if self.node else "pip"
        words = "_".join(self.packages).replace("<", "-below-").replace("==", "-").replace("@", "-")
        return cache / f"{kind}_{words}"

    def missing(self, cache: Path) -> str | None:
        """Why it cannot run; None where it can."""
        for program in self._programs():
            if shutil.which(program) is None:
                return f"needs {program}"
        if not (self.place(cache) / "complete").exists():
            return "its environment is not there: python -m tools.engines --prepare makes it"
        return None

    def prepare(self, cache: Path) -> None:
        """Make its environment, unless it is there.

        Raises:
            UsageError: a package manager failed, or is absent; with its last line.
        """
        place = self.place(cache)
        absent = [program for program in self._programs() if shutil.which(program) is None]
        if absent:
            raise UsageError(f"{self.name} needs {absent[0]}")
        if (place / "complete").exists():
            return
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if self.node:
            skip = {"ONNXRUNTIME_NODE_INSTALL": "skip"}  # its script would fetch CUDA libraries
            npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]
            run([*npm, *self.packages], os.environ | skip)
        else:
            make_venv(place, self.packages, dict(os.environ))
        (place / "complete").touch()

    def command(self, cache: Path) -> list[str]:
        """The words that start the worker; the folder of a job comes behind them."""
        place, worker = str(self.place(cache)), str(WORKERS / self.worker)
        if self.program is not None:
            return [sys.executable, worker, str(shutil.which(self.program)), place]
        if self.node:
            return ["node", worker, self.name.split(" ")[0], place]
        return [str(Path(place) / "bin/python"), worker]

    def _programs(self) -> Sequence[str]:
        return [*(["node", "npm"] if self.node else []), *([self.program] if self.program else [])]


ENGINES = (
    Engine("onnxruntime 1.17", "onnxruntime_wheel.py", ("onnxruntime==1.17.3", _OLD_NUMPY)),
    Engine("onnxruntime 1.24", "onnxruntime_wheel.py", ("onnxruntime==1.24.4",)),
    Engine("onnxruntime 1.32", "onnxruntime_wheel.py", ("onnxruntime==1.32.0",)),
    Engine("onnxruntime 1.32, .ort of fixed style", "ort_format.py", ("onnxruntime==1.32.0",)),
    Engine("onnxruntime-node", "node.mjs", _NODE_PACKAGES, node=True),
    Engine("onnxruntime-web in Node", "node.mjs", _NODE_PACKAGES, node=True),
    Engine("onnxruntime-web in Chromium", "browser.py", _NODE_PACKAGES, node=True, program="chromium"),
    Engine("OpenVINO", "openvino_native.py", ("openvino==2026.4.1",)),
    Engine(
        "OpenVINO as a plugin of onnxruntime",
        "openvino_plugin.py",
        ("onnxruntime==1.32.0", "onnxruntime-ep-openvino==1.8.1"),
    ),
    Engine("tract", "tract_wheel.py", ("tract==0.23.9",)),
    Engine(
        "IREE",
        "iree_wheel.py",
        ("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2"),
    ),
    Engine("MNN", "mnn_wheel.py", ("MNN==3.6.1", "numpy==2.4.6")),
)


def default_cache() -> Path:
    """Where environments are kept."""
    return cache_of("engines")
