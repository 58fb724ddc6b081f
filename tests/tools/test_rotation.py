"""A rotated residual stream gives the same logits: what is measured is rounding alone."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.host.quantize.small_vit import images, lowering, run, small
from tools.rotation import Matrix, hadamard, identity, orthogonal, rotated
from vit_edge.errors import ModelError
from vit_edge.host.lower.model import lower
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import RMS_NORM, composites, is_op


def logits(canonical: Canonical) -> npt.NDArray[np.float32]:
    return np.concatenate([run(lower(canonical, lowering()), pixels[None]) for pixels in images(4)])


@pytest.mark.parametrize("turn", [identity, orthogonal, hadamard])
def test_logits_stay_and_no_mean_is_taken_off(turn: object) -> None:
    canonical = small()
    turned = rotated(canonical, turn)  # type: ignore[arg-type]
    before, after = logits(canonical), logits(turned)
    np.testing.assert_allclose(after, before, atol=2e-4 * np.abs(before).max())
    assert len(list(composites(turned.model.graph, RMS_NORM))) == 7
    assert not any(is_op(node, "LayerNormalization") for node in turned.model.graph)


def test_the_model_that_was_given_is_left_as_it_was() -> None:
    canonical = small()
    before = logits(canonical)
    rotated(canonical, orthogonal)
    np.testing.assert_array_equal(logits(canonical), before)


def test_what_goes_through_the_stream_is_another() -> None:
    """The probe would measure nothing otherwise."""
    canonical = small()
    tables = [
        next(composites(model.model.graph, "Embed")).inputs[2].const_value.numpy()  # type: ignore[union-attr]
        for model in (rotated(canonical, identity), rotated(canonical, orthogonal))
    ]
    assert np.abs(tables[0].mean(axis=1)).max() < 1e-6
    assert np.abs(tables[0] - tables[1]).max() > 0.1


@pytest.mark.parametrize(("turn", "size"), [(orthogonal, 72), (hadamard, 72), (hadamard, 64), (hadamard, 3)])
def test_a_rotation_turns_back(turn: object, size: int) -> None:
    made: Matrix = turn(size)  # type: ignore[operator]
    np.testing.assert_allclose(made @ made.T, np.eye(size), atol=1e-12)


def test_a_model_without_layer_normalizations_is_refused() -> None:
    once = rotated(small(), identity)
    with pytest.raises(ModelError, match="has no LayerNormalization"):
        rotated(once, identity)
