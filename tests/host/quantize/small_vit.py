"""A small vision transformer with random weights, images to calibrate it with, and its integer forms."""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from PIL import Image

from tests.arithmetic import exact_session
from tests.host.vit_forms import Export, randomised, to_onnx
from vit_edge.arrays import Float32, Pixels
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.model import LowerSettings
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.vit import VisionTransformer, VitConfig
from vit_edge.spec import InputForm, Interpolation, ModelForm, PreprocessSpec, ResizeMode

SIDE, PATCH, DIM, DEPTH, HEADS, CLASSES = 16, 4, 72, 3, 3, 10
MEAN, STD = (0.48, 0.45, 0.41), (0.23, 0.22, 0.225)
PREPROCESS = PreprocessSpec(SIDE, SIDE, ResizeMode.NONE, (SIDE, SIDE), Interpolation.BILINEAR, MEAN, STD)
NORMAL = Normalisation(np.asarray(MEAN, np.float32), np.asarray(STD, np.float32))


@functools.cache
def proto(depth: int = DEPTH, dim: int = DIM) -> onnx.ModelProto:
    """The float model, `pixel_values` (batch, 3, 16, 16): 17 tokens, some channels much larger."""
    config = VitConfig((SIDE, SIDE), (PATCH, PATCH), dim, depth, HEADS, mlp_dim=2 * dim, num_classes=CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = randomised(VisionTransformer(config), 5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("norm1.weight", "norm2.weight")):
                    parameter[::9] *= 8.0
    return to_onnx(model, Export(False, 17, None), (3, SIDE, SIDE))


def small(depth: int = DEPTH, dim: int = DIM, *, key_bias: bool = False) -> Canonical:
    """The canonical form."""
    return canonicalise(proto(depth, dim), "small", key_bias=key_bias)


def lowering(batch: int | None = 1, form: InputForm = InputForm.PIXELS) -> LowerSettings:
    """The form of a file for the small model's preprocessing."""
    return LowerSettings(ModelForm(batch, form), NORMAL)


def images(count: int, seed: int = 0) -> Pixels:
    """uint8 (count, 16, 16, 3): waves of random direction and colour with noise on them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    made = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for image in made:
        frequency, phase = rng.uniform(-0.8, 0.8, (2, 3)), rng.uniform(0, 6, 3)
        waves = np.sin(rows[..., None] * frequency[0] + columns[..., None] * frequency[1] + phase)
        noise = rng.normal(0, 15, (SIDE, SIDE, 3))
        image[:] = np.clip(rng.uniform(60, 200) + rng.uniform(20, 110) * waves + noise, 0, 255)
    return made


def written(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """The same images as PNG files."""
    paths = [folder / f"{i:03d}.png" for i in range(count)]
    for path, pixels in zip(paths, images(count, seed), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def session(model: onnx.ModelProto, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session with every optimisation and the options that integer models are written for."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for key, value in SESSION_OPTIONS.items():
        options.add_session_config_entry(key, value)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, given: npt.NDArray[np.generic]) -> Float32:
    """The output of a model with one input, in exact integer arithmetic whatever the CPU."""
    made = exact_session(model.SerializeToString())
    result: Float32 = made.run(None, {made.get_inputs()[0].name: given})[0]
    return result


def decibels(expected: Float32, found: Float32) -> float:
    """Signal to noise ratio."""
    noise = np.square(found - expected, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise))
