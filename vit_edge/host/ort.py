"""Bare onnxruntime sessions on this machine's CPU, for models that are made here and run nowhere else."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from vit_edge.errors import ModelError
from vit_edge.runtime.session.providers import cause, without_file

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # whatever a form takes: normalised float32 (N, 3, H, W) or uint8 (N, H, W, 3)
Run = Callable[[Images], Floats]  # to logits (N, C)

_LOG_ERRORS = 3  # onnxruntime's severity


def cpu_session(
    model: bytes,
    entries: Iterable[tuple[str, str]] = (),
    *,
    threads: int = 0,
    fused: bool = True,
    optimised: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on the CPU that logs nothing but errors.

    Args:
        model: the bytes of an ONNX file.
        entries: session config entries.
        threads: 0 leaves their number to onnxruntime.
        fused: whether onnxruntime may fuse operators, which removes inner tensors.
        optimised: where the graph that runs is to be written.

    Raises:
        Exception: of onnxruntime's, which share no base.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    options.intra_op_num_threads = threads
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    for key, value in entries:
        options.add_session_config_entry(key, value)
    return without_file(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))


def runner(model: onnx.ModelProto, name: str, output: str | None = None) -> Run:
    """Run a model of images in onnxruntime on the CPU, whatever its batch size and input name.

    Args:
        model: with one input.
        name: how errors call it.
        output: which output to return; the first by default.

    Raises:
        ModelError: onnxruntime refuses the model or fails on it.
    """
    try:
        session = cpu_session(model.SerializeToString())
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ModelError(f"{name} cannot be loaded by onnxruntime ({cause(error)})") from error
    image, output = session.get_inputs()[0], output or session.get_outputs()[0].name
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None

    def run(images: Images) -> Floats:
        size = fixed or len(images)
        missing = -len(images) % size
        padded = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        try:
            rows = [
                session.run([output], {image.name: padded[start : start + size]})[0]
                for start in range(0, len(padded), size)
            ]
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{name} fails in onnxruntime ({cause(error)})") from error
        return np.asarray(np.concatenate(rows)[: len(images)], np.float32)

    return run
