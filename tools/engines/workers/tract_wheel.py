"""tract, an engine written in Rust; it wants the batch fixed when it loads."""

from pathlib import Path

import numpy as np
import tract
from common import Run, serve

TYPES = {"float32": "f32", "uint8": "u8"}


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del options
    model = tract.onnx().load(str(path))
    model.set_input_fact(0, ",".join(map(str, shape)) + f",{TYPES[kind]}")
    for index in range(model.output_count()):
        model.set_output_fact(index, None)
    runnable = model.into_model().into_runnable()

    def run(image: np.ndarray) -> np.ndarray:
        return np.array(runnable.run([tract.Tensor.from_numpy(np.ascontiguousarray(image))])[0].to_numpy())

    return run


if __name__ == "__main__":
    serve(load, f"tract {tract.version()}")
