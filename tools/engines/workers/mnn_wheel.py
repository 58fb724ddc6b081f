"""MNN, which converts a model to a format of its own before it runs it, on one thread."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import MNN
import numpy as np
from common import Run, serve

CONVERT = Path(sys.executable).parent / "mnnconvert"
TYPES = {"float32": MNN.Halide_Type_Float, "uint8": MNN.Halide_Type_Uint8}


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del options
    converted = path.with_suffix(".mnn")
    words = [CONVERT, "-f", "ONNX", "--modelFile", path.name, "--MNNModel", converted.name, "--bizCode", "x"]
    # It leaves a file where it is started.
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=path.parent)
    if done.returncode or not converted.exists():  # it aborts without a word about the operator
        said = [line.strip() for line in done.stderr.splitlines() if "what()" in line]
        raise RuntimeError(f"mnnconvert aborts: {(said or [f'status {done.returncode}'])[-1]}")
    interpreter = MNN.Interpreter(str(converted))
    session = interpreter.createSession({"numThread": 1})
    entry = interpreter.getSessionInput(session)
    interpreter.resizeTensor(entry, shape)
    interpreter.resizeSession(session)

    def run(image: np.ndarray) -> np.ndarray:
        given = MNN.Tensor(shape, TYPES[kind], np.ascontiguousarray(image), MNN.Tensor_DimensionType_Caffe)
        entry.copyFrom(given)
        interpreter.runSession(session)
        return np.array(interpreter.getSessionOutput(session, "logits").getData(), np.float32)

    return run


if __name__ == "__main__":
    serve(load, f"MNN {version('MNN')}")
