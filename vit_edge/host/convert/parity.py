"""Do two forms of one model give the same logits? Checked after every step that claims to lose nothing."""

import numpy as np

from vit_edge.errors import ModelError, ParityError
from vit_edge.host.ort import Floats, Images, Run
from vit_edge.manifest import Parity

# Shares of the largest logit (or of 1, where all logits are smaller). An export replaces torch's kernels by
# onnxruntime's; a rewrite stays within one runtime and only reorders float32 arithmetic.
EXPORT_TOLERANCE = 1e-3
REWRITE_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2  # float16 keeps 11 bits; ViT-Tiny stays within 1.2e-3

INTEGERS_DIFFERING = (
    1e-2  # share of integers, such as the classes of pixels, that float32 rounding may decide
)

RANDOM_IMAGES = 3  # run one by one and as a batch


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


def check_integers(reference: Run, other: Run, images: Images, what: str) -> None:
    """The same of an output that holds integers, such as the likeliest class of each pixel.

    Raises:
        ParityError: more of them differ than near ties explain.
        ModelError: a form fails, or gives another shape.
    """
    expected, got = reference(images), other(images)
    if expected.shape != got.shape:
        raise ModelError(f"{what}: integers of shape {got.shape} where {expected.shape} were expected")
    differing = float((expected != got).mean())
    if differing > INTEGERS_DIFFERING:
        raise ParityError(f"{what}: {differing:.2%} of its integers differ; please report this model")
