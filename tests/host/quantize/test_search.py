"""From images to a search: each step gives a record, and leaves what it was given as it was."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.host.quantize.small_vit import PREPROCESS, images, lowering, run, small, written
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize import probe as probe_module
from vit_edge.host.quantize.calibration import CORRECTION_IMAGES, PROBE_IMAGES, calibrate, fold
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.spec import Arithmetic

SETTINGS = QuantizeSettings(Preset.STATIC, 30)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("images"), 30)


def content(canonical: Canonical) -> bytes:
    return bytes(ir.to_proto(canonical.model).SerializeToString(deterministic=True))


def test_a_search_leaves_the_model_that_it_was_given_alone(paths: list[Path]) -> None:
    canonical = small(1)
    before = content(canonical)
    search = search_of(canonical, paths, PREPROCESS, SETTINGS)
    search.first()
    assert content(canonical) == before
    assert content(search.canonical) != before


def test_a_folded_model_is_another_and_computes_the_same(paths: list[Path]) -> None:
    canonical = small(1)
    calibration = calibrate(canonical, paths, PREPROCESS, SETTINGS)
    seen = dict(calibration.seen)
    folded = fold(canonical, calibration)
    assert folded.folds
    assert dict(calibration.seen) == seen
    assert folded.calibration.seen["blocks.0.fc1"] is not seen["blocks.0.fc1"]
    given = images(4)
    expected, found = (run(lower(each, lowering(None)), given) for each in (canonical, folded.canonical))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_biases_are_corrected_over_other_images_than_noise_is_measured_on(paths: list[Path]) -> None:
    found = calibrate(small(1), paths, PREPROCESS, SETTINGS)
    assert (len(found.images), len(found.probed)) == (30, PROBE_IMAGES)
    assert len(found.corrected) == min(30 - PROBE_IMAGES, CORRECTION_IMAGES)
    probed = {pixels.tobytes() for pixels in found.probed}
    assert not probed & {pixels.tobytes() for pixels in found.corrected}
    assert found.reference[0].shape[0] == PROBE_IMAGES


def test_making_a_search_runs_nothing(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folded = fold(small(1), calibrate(small(1), paths[:3], PREPROCESS, SETTINGS))
    plans = plan_set(folded, SETTINGS.arithmetics)

    def ran(_: bytes, threads: int) -> None:
        raise AssertionError(f"a model was run with {threads} threads")

    monkeypatch.setattr(probe_module, "load", ran)
    search = Search(folded, plans, SETTINGS)
    with pytest.raises(AssertionError, match="a model was run"):
        search.first()


@pytest.mark.parametrize(
    ("asked", "first", "whole"),
    [
        ((Arithmetic.SATURATING, Arithmetic.EXACT), Arithmetic.SATURATING, False),
        ((Arithmetic.INTEGER,), Arithmetic.EXACT, True),
    ],
)
def test_plans_are_made_for_what_was_asked_for(
    paths: list[Path], asked: tuple[Arithmetic, ...], first: Arithmetic, whole: bool
) -> None:
    made = plan_set(fold(small(1), calibrate(small(1), paths[:3], PREPROCESS, SETTINGS)), asked)
    assert made.arithmetic is first
    assert set(made.by_arithmetic) == {kind for kind in asked if kind is not Arithmetic.INTEGER}
    assert (made.full_integer is not None) is whole
