"""The onnxruntime of a Python wheel, on one thread of the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime
from common import Run, serve


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del shape, kind
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    for key, value in options.items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {name: image})[0])

    return run


if __name__ == "__main__":
    serve(load, f"onnxruntime {onnxruntime.__version__}")
