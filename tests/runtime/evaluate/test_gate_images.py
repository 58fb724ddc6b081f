"""The gate of a build counts no image twice, suspects a bad float model, and remembers that it looked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.conftest import COLOURS, ToyModel
from vit_edge.errors import ModelError
from vit_edge.host.bundling.proof import Gate
from vit_edge.runtime.evaluate.compare import compare
from vit_edge.runtime.evaluate.dataset import ImageSet, read_images
from vit_edge.runtime.evaluate.looks import earlier_looks
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.spec import Tolerance

GREEN_BLIND = ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 1.0))


def silent(what: str, done: int, total: int) -> None:
    """No progress is wanted."""


def test_copies_among_check_images_are_run_and_counted_once(
    many: Path,
    toy_model: ToyModel,
) -> None:
    for path in sorted(many.glob("*/*.png"))[:50]:
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    images = read_images(many, COLOURS)
    gate = Gate(toy_model("float.onnx"), images, 1, silent)
    quant = toy_model("quant.onnx", (2 * np.eye(3)).tolist())
    for _ in range(2):  # the second time the float model is not run again
        (found,) = gate.judge([quant], Tolerance())
        assert (found.report.n, found.available, len(images)) == (300, 350, 350)
        assert found.copies is not None
        assert found.copies.left_out == 50
        assert len(found.images) == len(found.float_logits) == 300


def test_a_float_model_below_what_is_expected_stops_the_build(
    many_images: ImageSet,
    toy_model: ToyModel,
) -> None:
    gate = Gate(toy_model("float.onnx", GREEN_BLIND), many_images, 1, silent)
    with pytest.raises(ModelError, match=r"is right on 66.7 % of 300 images .* where 90 % are expected"):
        gate.check_float(90.0, None)
    gate.check_float(65.0, 90.0)
    assert "far below the 90.0 % that are stated for it" in gate.notes[0]
    assert gate.judge([toy_model("quant.onnx")], Tolerance())[0].notes == gate.notes


def test_a_comparison_after_a_build_allows_for_the_look_that_the_build_took(
    many_images: ImageSet,
    toy_model: ToyModel,
) -> None:
    float_model, quant = toy_model("float.onnx"), toy_model("quant.onnx", (2 * np.eye(3)).tolist())
    gate = Gate(float_model, many_images.first(200), 1, silent)
    gate.judge([quant], Tolerance())
    gate.remember([quant])
    settings = CompareSettings(earlier=earlier_looks((float_model.sha256, quant.sha256)))
    assert len(settings.earlier) == 1
    place = compare(float_model, quant, many_images, Tolerance(), settings).place
    assert place is not None
    assert (place.number, place.known, place.left_out) == (2, 200, 0)
    same = compare(float_model, quant, many_images.first(200), Tolerance(), settings)
    assert same.place is not None
    assert not same.place.again
