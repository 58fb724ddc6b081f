"""Models that run in processes of their own, each in the environment of its engine, and are timed in turn."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tools.peers.environments import surroundings
from tools.peers.measure import Floats
from vit_edge.errors import ModelError
from vit_edge.runtime.measure.timing import Milliseconds

SERVE = Path(__file__).parent / "workers" / "serve.py"


class Served:
    """One model in one engine, in a process of its own, as a context manager.

    Args:
        python: of the engine's environment.
        engine: a module beside `workers/serve.py`.
        model: the file.
        inputs: .npy, float32 (N, 3, H, W).
        options: settings that the file asks for.

    Raises:
        ModelError: the engine does not take the model, with the first line that it said.
    """

    def __init__(
        self, python: Path, engine: str, model: Path, inputs: Path, options: Mapping[str, str] | None = None
    ) -> None:
        command = [str(python), str(SERVE), engine, str(model), str(inputs), json.dumps(dict(options or {}))]
        self.process = subprocess.Popen(
            command,
            env=surroundings(python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.version: str = self._answer()["version"]
        except ModelError:
            self.close()
            raise

    def logits(self, place: Path) -> Floats:
        """(N, C) of all inputs, one at a time; `place` is the .npy that they travel in."""
        self._ask({"logits": str(place)})
        return np.asarray(np.load(place), np.float32)

    def times(self, runs: int) -> list[float]:
        """Ms of so many runs of the first input."""
        return [float(each) for each in self._ask({"runs": runs})["ms"]]

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None  # noqa: S101  a pipe was asked for
        self.process.stdin.write(json.dumps(dict(what)) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101  a pipe was asked for
        line = self.process.stdout.readline()
        if not line:
            raise ModelError(f"the engine ended with status {self.process.wait()} and without a word")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise ModelError(str(said["error"]))
        return said


def times_in_turn(served: Sequence[Served], rounds: int) -> Milliseconds:
    """(rounds, len(served)) ms: each once per round, after a run that is not timed, the order rotating."""
    found = np.zeros((rounds, len(served)))
    for turn in range(rounds):
        for step in range(len(served)):
            index = (turn + step) % len(served)
            found[turn, index] = served[index].times(1)[0]
    return found
