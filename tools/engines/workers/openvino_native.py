"""OpenVINO by itself, on one thread of the CPU, the batch left dynamic where the file leaves it so."""

from pathlib import Path

import numpy as np
import openvino
from common import Run, serve


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del shape, kind, options
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # what a file calls float stays so where the CPU has bfloat16
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(image: np.ndarray) -> np.ndarray:
        return np.array(request.infer([image])[0])

    return run


if __name__ == "__main__":
    serve(load, f"OpenVINO {openvino.__version__.split('-')[0]}")
