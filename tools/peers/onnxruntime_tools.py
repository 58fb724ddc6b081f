"""The quantizers that come with onnxruntime, with their defaults and with more care."""

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.peers.workshop import Made, Workshop
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import PreprocessSpec

PERCENTILE_IMAGES = 16  # its calibrator keeps every activation, about 55 MB per image of ViT-Tiny
FILE = "model.onnx"

Inputs = dict[str, np.ndarray]
Quantizer = Callable[[Path, Path], None]  # (float model, where to write)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images as the float model sees them."""

    images: Sequence[Path]
    preprocess: PreprocessSpec

    def inputs(self, count: int | None = None) -> Iterator[np.ndarray]:
        """One image at a time, spread evenly where `count` is smaller than there are."""
        total = len(self.images)
        used = min(count or total, total)
        for index in range(used):
            yield self.input(self.images[index * total // used])

    def input(self, path: Path) -> np.ndarray:
        """One image, float32 (1, 3, H, W)."""
        return normalize(load_pixels(path, self.preprocess)[None], self.preprocess)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type hints
    def __init__(self, name: str, inputs: Iterator[np.ndarray]) -> None:
        self.name, self.inputs = name, inputs

    def get_next(self) -> Inputs | None:
        """The next feed, or None after the last."""
        batch = next(self.inputs, None)
        return None if batch is None else {self.name: batch}


def dynamic(source: Path, target: Path) -> None:
    quantize_dynamic(source, target, per_channel=True)


def static(calibration: Calibration, count: int | None, options: dict[str, Any]) -> Quantizer:
    """`quantize_static` with some options, as a function of two files."""

    def run(source: Path, target: Path) -> None:
        name = onnx.load(source, load_external_data=False).graph.input[0].name
        quantize_static(source, target, _Reader(name, calibration.inputs(count)), **options)

    return run


def quantizers(calibration: Calibration) -> dict[str, tuple[Quantizer, dict[str, Any]]]:
    """Name in the table -> quantizer and what is recorded about it."""
    careful: dict[str, Any] = {
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "op_types_to_quantize": ["MatMul", "Gemm", "Conv"],
    }
    percentile = {
        "calibrate_method": CalibrationMethod.Percentile,
        "extra_options": {"CalibPercentile": 99.99},
    }
    images = len(calibration.images)
    few = min(images, PERCENTILE_IMAGES)
    chosen = "per channel, uint8 activations, MatMul, Gemm and Conv only"
    return {
        "onnxruntime quantize_dynamic": (dynamic, {"settings": "per channel", "images": 0}),
        "onnxruntime quantize_static, defaults": (
            static(calibration, None, {}),
            {"settings": "defaults", "images": images},
        ),
        "onnxruntime quantize_static, MinMax": (
            static(calibration, None, careful),
            {"settings": chosen, "images": images},
        ),
        "onnxruntime quantize_static, Percentile": (
            static(calibration, few, careful | percentile),
            {"settings": f"{chosen}, percentile 99.99", "images": few},
        ),
    }


def onnxruntime_models(
    exported: Path, calibration: Calibration, workshop: Workshop
) -> list[tuple[str, Path, dict[str, Any]]]:
    """(name, ONNX file, info) of each, all made from the float model after `quant_pre_process`."""
    made = []
    for name, (quantizer, info) in quantizers(calibration).items():
        recipe = {
            "name": name.replace(" ", "-").replace(",", ""),
            "info": info,
            "version": onnxruntime.__version__,
        }

        def build(quantizer: Quantizer = quantizer) -> Made:
            return Made({FILE: _quantized(exported, quantizer)})

        place, found = workshop.make(recipe, build)
        made.append((name, place / FILE, info | found))
    return made


def _quantized(exported: Path, quantizer: Quantizer) -> bytes:
    with tempfile.TemporaryDirectory() as name, _quiet():
        prepared, target = Path(name) / "prepared.onnx", Path(name) / "quantized.onnx"
        quant_pre_process(str(exported), str(prepared))
        quantizer(prepared, target)
        return target.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Its advice on the root logger is not about the comparison."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
