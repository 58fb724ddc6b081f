"""What every Python worker shares; runs in an environment of its own, with numpy and one engine.

A worker is started as `WORKER JOB`. JOB/job.json names the model files, the images (raw, row by row) with
their type and shape, the number of timing rounds, and onnxruntime's session options for each model. It leaves
JOB/logits.I.bin (float32, one row per image) for each model I that runs, and JOB/result.json.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
Load = Callable[[Path, tuple[int, ...], str, dict[str, str]], Run]
WARM_UP = 3


def serve(load: Load, version: str) -> None:
    """Do the job that the first argument names.

    Args:
        load: from a model file, the shape and type of one image with its batch dimension, and session options
            to what gives logits (1, C) for it.
        version: of the engine.
    """
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    images = np.fromfile(folder / "images.bin", job["type"]).reshape(job["shape"])
    runs: list[Run | None] = []
    models = []
    for index, (name, options) in enumerate(zip(job["models"], job["options"], strict=True)):
        try:
            run = load(folder / name, (1, *images.shape[1:]), job["type"], options)
            rows = [np.asarray(run(image[None]), np.float32).reshape(1, -1) for image in images]
        except Exception as error:  # whatever the engine raises is its answer
            runs.append(None)
            models.append({"error": (str(error).strip() or type(error).__name__)[:600], "ms": []})
            continue
        np.concatenate(rows).tofile(folder / f"logits.{index}.bin")
        runs.append(run)
        models.append({"error": None, "ms": []})
    for turn in range(WARM_UP + job["rounds"]):
        for run, model in zip(runs, models, strict=True):
            if run is None:
                continue
            start = time.perf_counter()
            run(images[:1])
            if turn >= WARM_UP:
                model["ms"].append((time.perf_counter() - start) * 1e3)
    (folder / "result.json").write_text(json.dumps({"version": version, "models": models}), encoding="utf-8")
