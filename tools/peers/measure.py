"""Every contender on the same images and, in the same rounds, on the same pixels."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from vit_edge.arrays import Pixels
from vit_edge.host.convert.onnx_io import read_metadata
from vit_edge.runtime.evaluate.answers import Subject, evaluate
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.runtime.measure.timing import Milliseconds, Rounds, time_interleaved
from vit_edge.runtime.model.own_kernels import kernels_library
from vit_edge.runtime.session.placement import as_this_cpu_needs
from vit_edge.spec import KERNELS_DOMAIN, InputForm, PreprocessSpec

Floats = npt.NDArray[np.float32]
Inputs = npt.NDArray[Any]  # in the model's own form, see spec.InputForm


class Engine(Protocol):
    """A loaded model on one thread."""

    def infer(self, inputs: Inputs) -> Floats:
        """Logits (1, C) of one image."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
    """One model of the comparison, ready to run."""

    name: str
    engine: Engine
    form: InputForm
    size: int  # bytes of its files
    info: dict[str, Any]  # plain JSON: how it was made and is run


class Onnx:
    """An ONNX file in onnxruntime, with the session options that the file asks for, if any."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # its warnings are about its own optimisations
        for key, value in as_this_cpu_needs(read_metadata(model, path.name).session_options).items():
            options.add_session_config_entry(key, value)
        if any(each.domain == KERNELS_DOMAIN for each in model.opset_import):
            options.register_custom_ops_library(kernels_library())
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        image = self.session.get_inputs()[0]
        self.name: str = image.name
        self.form = InputForm.PIXELS if "uint8" in image.type else InputForm.PIXEL_VALUES

    def infer(self, inputs: Inputs) -> Floats:
        """Logits (1, C) of one image."""
        return np.asarray(self.session.run(None, {self.name: inputs})[0])


class _Runner:
    def __init__(self, contender: Contender, preprocess: PreprocessSpec) -> None:
        self.contender, self.preprocess = contender, preprocess

    def run(self, pixels: Pixels) -> Floats:
        return self.contender.engine.infer(as_inputs(pixels, self.contender.form, self.preprocess))


def as_inputs(pixels: Pixels, form: InputForm, preprocess: PreprocessSpec) -> Inputs:
    """Pixels (1, H, W, 3) in the form that a model takes."""
    return pixels if form is InputForm.PIXELS else normalize(pixels, preprocess)


def onnx_contender(name: str, path: Path, info: dict[str, Any]) -> Contender:
    """A contender that onnxruntime runs."""
    engine = Onnx(path)
    return Contender(name, engine, engine.form, path.stat().st_size, info | {"engine": "onnxruntime"})


def all_logits(
    contenders: Sequence[Contender],
    images: ImageSet,
    preprocess: PreprocessSpec,
    progress: Callable[[int, int], None],
) -> list[Floats]:
    """Logits (N, C) of each; one image at a time, since some quantizers' results depend on the batch."""
    subjects = [Subject(_Runner(contender, preprocess), preprocess) for contender in contenders]
    return evaluate(subjects, images, 1, progress)


def all_times(
    contenders: Sequence[Contender], image: Path, preprocess: PreprocessSpec, rounds: Rounds
) -> Milliseconds:
    """(rounds, contenders) ms of inference alone, in one process, the order rotating."""
    pixels = load_pixels(image, preprocess)[None]

    def run_of(contender: Contender) -> Callable[[], object]:
        inputs = as_inputs(pixels, contender.form, preprocess)
        return lambda: contender.engine.infer(inputs)

    return time_interleaved([run_of(contender) for contender in contenders], rounds)
