"""NNCF's post-training quantization for transformers, run by OpenVINO; both are optional."""

import importlib
import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.peers.onnxruntime_tools import Calibration
from tools.peers.workshop import Made, Workshop

NAME = "NNCF on OpenVINO"
MISSING = "not installed: pip install -r tools/peers-requirements.txt"
FILES = ("model.xml", "model.bin")


def installed() -> bool:
    """Whether both packages are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("nncf", "openvino"))


def versions() -> dict[str, str]:
    """Of both packages; empty where they are not installed."""
    return {name: importlib.metadata.version(name) for name in ("nncf", "openvino")} if installed() else {}


def nncf_model(exported: Path, calibration: Calibration, workshop: Workshop) -> tuple[Path, dict[str, Any]]:
    """The folder with model.xml and model.bin, of batch 1, and the info."""
    recipe = {"name": "nncf", "versions": versions()}
    place, info = workshop.make(recipe, lambda: _build(exported, calibration))
    settings = "ModelType.TRANSFORMER, fast bias correction (the defaults), batch 1"
    return place, info | {"settings": settings, "images": len(calibration.images)}


def _build(exported: Path, calibration: Calibration) -> Made:
    nncf, openvino = (importlib.import_module(name) for name in ("nncf", "openvino"))
    model = openvino.convert_model(exported)
    model.reshape([1, *(dimension.get_length() for dimension in model.input(0).partial_shape[1:])])
    count = len(calibration.images)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(calibration.images, calibration.input),
        subset_size=count,
        model_type=nncf.ModelType.TRANSFORMER,
    )
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(quantized, Path(folder) / FILES[0])
        return Made({name: (Path(folder) / name).read_bytes() for name in FILES})


class OpenVino:
    """A model compiled for one thread of the CPU.

    Args:
        model: OpenVINO's own form (.xml) or an ONNX file.
        precision: of what is not INT8; None leaves it to OpenVINO.
    """

    def __init__(self, model: Path, precision: str | None) -> None:
        openvino = importlib.import_module("openvino")
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        core = openvino.Core()
        read = core.read_model(model)
        if read.input(0).partial_shape[0].is_dynamic:
            read.reshape([1, *(dimension.get_length() for dimension in read.input(0).partial_shape[1:])])
        self.compiled = core.compile_model(read, "CPU", options)
        self.request = self.compiled.create_infer_request()

    @property
    def precision(self) -> str:
        """What is computed in where it is not INT8: OpenVINO's inference precision."""
        return str(self.compiled.get_property("INFERENCE_PRECISION_HINT").to_string())

    def infer(self, inputs: np.ndarray) -> np.ndarray:
        """Logits (1, C) of one image in the form that the model takes."""
        return np.asarray(self.request.infer([inputs])[0])
