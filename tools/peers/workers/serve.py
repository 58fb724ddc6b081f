"""Runs one model in one engine; started by the Python of the engine's own environment, with numpy there.

python serve.py ENGINE MODEL INPUTS.npy OPTIONS

ENGINE is a module beside this file, MODEL a file, INPUTS float32 (N, 3, H, W) and OPTIONS a JSON object of
settings that the file asks for. It answers in one line of JSON: first {"version": ...} or {"error": ...},
then to {"logits": PATH} once the logits (N, C) of all inputs, one at a time, lie there, and to {"runs": K}
with the ms of each of K runs of the first input, after one that is not timed.
"""

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

KEPT = 150  # characters of either end of an error


def main() -> None:
    engine, model, inputs, options = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints is no answer
    images = np.load(inputs, mmap_mode="r")

    def answer(said: dict[str, object]) -> None:
        answers.write(json.dumps(said) + "\n")

    try:
        module = importlib.import_module(engine)
        run = module.load(Path(model), json.loads(options))
        first = np.array(images[:1])
        run(first)
        answer({"version": module.version()})
    except Exception as problem:  # whatever the engine raises is its answer
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        answer({"error": shortened(lines[0])})
        return
    gc.collect()
    gc.disable()
    for line in sys.stdin:
        asked = json.loads(line)
        if "logits" in asked:
            rows = [np.asarray(run(np.array(image[None])), np.float32).reshape(1, -1) for image in images]
            np.save(asked["logits"], np.concatenate(rows))
            answer({"logits": len(rows)})
        else:
            answer({"ms": _timed(run, first, asked["runs"])})


def shortened(line: str) -> str:
    """Its beginning and its end, where what went wrong often stands."""
    return line if len(line) <= 2 * KEPT else f"{line[:KEPT]} ... {line[-KEPT:]}"


def _timed(run, first: np.ndarray, count: int) -> list[float]:
    run(first)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        run(first)
        times.append((time.perf_counter() - began) * 1e3)
    return times


if __name__ == "__main__":
    main()
