"""A job for an engine: two model files and images in a folder; what the engine makes of them."""

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ModelError
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import InputForm

Floats = npt.NDArray[np.float32]

TIMEOUT_S = 3600


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What one engine makes of one model file."""

    error: str | None  # why it does not run
    logits: Floats | None  # (N, C); None where it does not run
    ms: tuple[float, ...]  # of one image, one per round; rounds of all models alternate


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What one engine makes of every model file of a job."""

    version: str
    models: tuple[Answer, ...]


def lay_out(
    folder: Path,
    models: Sequence[ModelFile],
    pixels: npt.NDArray[np.uint8],
    rounds: int,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a job.

    Args:
        folder: of the job; exists.
        models: of one input form and preprocessing.
        pixels: uint8 (N, H, W, 3).
        rounds: of timing.
        extra: session options beyond those that the files ask for.

    Raises:
        ModelError: the models take different inputs, or do not say how images are preprocessed.
    """
    form, spec = models[0].form, models[0].preprocess
    if spec is None or any(model.form is not form for model in models):
        raise ModelError(f"{models[0].path} and {models[-1].path} do not take the same images")
    given = normalize(pixels, spec) if form is InputForm.PIXEL_VALUES else pixels
    names = [f"model{index}.onnx" for index in range(len(models))]
    for name, model in zip(names, models, strict=True):
        (folder / name).write_bytes(model.data)
    np.ascontiguousarray(given).tofile(folder / "images.bin")
    job = {
        "models": names,
        "options": [{**dict(model.session_options), **(extra or {})} for model in models],
        "type": given.dtype.name,
        "shape": list(given.shape),
        "rounds": rounds,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


def run(command: Sequence[str], folder: Path) -> Answers:
    """Start a worker on a job that was laid out, and read what it leaves.

    A worker that ends early leaves its last line as the error of every model.
    """
    try:
        done = subprocess.run(
            [*command, str(folder)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
    except subprocess.TimeoutExpired:
        said = f"it took longer than {TIMEOUT_S} s"
    result, job = folder / "result.json", json.loads((folder / "job.json").read_text(encoding="utf-8"))
    if not result.is_file():
        return Answers("unknown", tuple(Answer(said, None, ()) for _ in job["models"]))
    made: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return Answers(
        made["version"],
        tuple(_answer(folder, index, each, job["shape"][0]) for index, each in enumerate(made["models"])),
    )


def _answer(folder: Path, index: int, made: Mapping[str, Any], count: int) -> Answer:
    if made["error"] is not None:
        return Answer(str(made["error"]).splitlines()[0], None, ())
    logits = np.fromfile(folder / f"logits.{index}.bin", np.float32).reshape(count, -1)
    if not np.isfinite(logits).all():
        return Answer("its logits are not finite", None, ())
    return Answer(None, logits, tuple(map(float, made["ms"])))
