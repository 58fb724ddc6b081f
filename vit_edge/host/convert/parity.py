"""Do two forms of one model give the same logits? Checked after every step that claims to lose nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from vit_edge.errors import ModelError, ParityError
from vit_edge.manifest import Parity
from vit_edge.runtime.session.providers import cause

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # whatever a form takes: normalised float32 (N, 3, H, W) or uint8 (N, H, W, 3)
Run = Callable[[Images], Floats]  # to logits (N, C)

# Shares of the largest logit (or of 1, where all logits are smaller). An export replaces torch's kernels by
# onnxruntime's; a rewrite stays within one runtime and only reorders float32 arithmetic.
EXPORT_TOLERANCE = 1e-3
REWRITE_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2  # float16 keeps 11 bits; ViT-Tiny stays within 1.2e-3

RANDOM_IMAGES = 3  # run one by one and as a batch
_LOG_ERRORS = 3  # onnxruntime's severity


def random_images(height: int, width: int, count: int = RANDOM_IMAGES, seed: int = 0) -> Floats:
    """Standard normal float32 (count, 3, height, width), which is about as large as normalised images."""
    return np.random.default_rng(seed).standard_normal((count, 3, height, width), dtype=np.float32)


def check_parity(reference: Run, other: Run, images: Images, share: float, what: str) -> Parity:
    """Run both forms on each image alone and on all together.

    Args:
        reference: the form that is right by definition.
        other: the form under test.
        images: N of them, in the form that both take.
        share: largest allowed difference, as a share of max(1, largest |logit| of the reference).
        what: names the step, for the message.

    Raises:
        ParityError: they differ by more.
        ModelError: a form fails, or gives logits of another shape or that are not finite.
    """
    batches = [images[i : i + 1] for i in range(len(images))] + ([images] if len(images) > 1 else [])
    largest = scale = 0.0
    for batch in batches:
        expected, got = reference(batch), other(batch)
        if expected.shape != got.shape:
            raise ModelError(f"{what}: logits of shape {got.shape} where {expected.shape} were expected")
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            raise ModelError(f"{what}: logits that are not finite; check the weights")
        largest = max(largest, float(np.abs(expected - got).max()))
        scale = max(scale, float(np.abs(expected).max()))
    parity = Parity(largest, share * max(1.0, scale), len(images))
    if parity.largest > parity.allowed:
        raise ParityError(f"{what}: {parity}; please report this model")
    return parity


def runner(model: onnx.ModelProto, name: str, output: str | None = None) -> Run:
    """Run a model of images in onnxruntime on the CPU, whatever its batch size and input name.

    Args:
        model: with one input.
        name: how errors call it.
        output: which output to return; the first by default.

    Raises:
        ModelError: onnxruntime refuses the model or fails on it.
    """
    session = _session(model, name)
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


def _session(model: onnx.ModelProto, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ModelError(f"{name} cannot be loaded by onnxruntime ({cause(error)})") from error
    return session
