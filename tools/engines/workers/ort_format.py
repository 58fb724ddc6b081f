"""onnxruntime's own file format (.ort), fixed style: optimised once and for all, without what a CPU brings.

The runtime optimisation style is left out on purpose: it keeps the QDQ nodes unfused, and runs many times
slower.
"""

from pathlib import Path

import onnxruntime
from common import Run, serve
from onnxruntime_wheel import load as load_onnx


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    saved = path.with_suffix(".ort")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.optimized_model_filepath = str(saved)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    for key, value in {**options, "session.save_model_format": "ORT"}.items():
        settings.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return load_onnx(saved, shape, kind, options)


if __name__ == "__main__":
    serve(load, f"onnxruntime {onnxruntime.__version__}")
