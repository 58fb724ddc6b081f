"""OpenVINO as an execution provider that is plugged into onnxruntime."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime_ep_openvino as plugin
from common import Run, serve

NAME = "OpenVINOExecutionProvider"


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del shape, kind
    devices = [device for device in onnxruntime.get_ep_devices() if NAME in device.ep_name]
    if not devices:
        raise RuntimeError("the plugin offers no device on this machine")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    for key, value in options.items():
        settings.add_session_config_entry(key, value)
    settings.add_provider_for_devices(devices[:1], {})
    session = onnxruntime.InferenceSession(str(path), settings)
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {name: image})[0])

    return run


if __name__ == "__main__":
    onnxruntime.register_execution_provider_library(NAME, plugin.get_library_path())
    serve(load, f"onnxruntime {onnxruntime.__version__}, plugin {version('onnxruntime-ep-openvino')}")
