"""Peak memory of a model in a process of its own, so that no other model's is counted with it."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

from vit_edge.errors import ModelError, VitEdgeError
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import PreprocessSpec

RUNS = 3  # the first allocates; two more show that it was all
TIME_LIMIT = 600  # seconds, to load and run; a process that takes longer hangs

# The process finds modules where this one does, so it measures the same vit_edge and the same onnxruntime.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vit_edge.runtime.measure import memory; memory.main()"
)


@dataclasses.dataclass(frozen=True)
class MemoryRequest:
    """What the process of its own is to load and run."""

    path: str
    preprocess: PreprocessSpec
    session: SessionSettings
    batch: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for the way to the other process."""
        return dataclasses.asdict(self) | {"preprocess": self.preprocess.to_json()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        pairs = {
            name: tuple((key, value) for key, value in raw["session"][name])
            for name in ("options", "provider_options")
        }
        return cls(
            path=raw["path"],
            preprocess=PreprocessSpec.from_json(raw["preprocess"]),
            session=SessionSettings(**raw["session"] | pairs),
            batch=raw["batch"],
        )


def peak_rss_mb(request: MemoryRequest) -> float | None:
    """Peak resident memory of a fresh Python process that reads the model and runs it, in MB (10^6 bytes).

    A plain subprocess, not `multiprocessing`: that would import the caller's main module into the process
    measured, and whatever that imports.

    Returns:
        MB, the interpreter and numpy and onnxruntime included; None where the system keeps no such figure.

    Raises:
        ModelError: the process fails, is killed (as for want of memory) or hangs.
    """
    try:
        child = subprocess.run(  # noqa: S603  our own interpreter and code, no shell
            [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)],
            input=json.dumps(request.to_json()),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{request.path} took more than {TIME_LIMIT} s in a process of its own; use a smaller batch"
        ) from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or ["it wrote no message"]
        raise ModelError(
            f"{request.path} could not be run in a process of its own (exit status {child.returncode}: "
            f"{lines[-1]}); check that memory suffices"
        )
    figure = json.loads(child.stdout.splitlines()[-1])
    return None if figure is None else float(figure)


def own_peak_rss_mb() -> float | None:
    """Peak resident memory of this process so far, in MB (10^6 bytes); None where the system does not tell.

    On Linux the figure is VmHWM: `ru_maxrss` would start from that of the parent process.
    """
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found.group(1)) * 1024 / 1e6


def main() -> None:
    """Serve one request from standard input; the last line of standard output is the figure in JSON."""
    request = MemoryRequest.from_json(json.load(sys.stdin))
    spec = request.preprocess
    pixels = np.zeros((request.batch, spec.height, spec.width, 3), np.uint8)
    try:
        model = dataclasses.replace(read_model(request.path), preprocess=spec)
        session = Session(model, request.session)
        for _ in range(RUNS):
            session.outputs(pixels)
    except VitEdgeError as error:
        sys.exit(str(error))
    print(json.dumps(own_peak_rss_mb()))
