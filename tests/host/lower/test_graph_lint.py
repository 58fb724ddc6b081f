"""What onnxruntime makes of the files we write: every planned product in an integer kernel."""

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.host.quantize.census import assert_integer, optimised
from tests.host.quantize.forced import FLOAT_FIRST, ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import PREPROCESS, images, lowering, run, written
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize.types import Form, Preset, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import InputForm

NO_TARGET = -200.0  # dB: every layer may stay in its cheapest form
LINEARS, ATTENTIONS = 3 * 4 + 2, 3  # the last block makes queries apart from keys and values; the head


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to quantize and what should come of it."""

    linears: Costs
    attentions: Costs
    target_db: float | None
    forms: dict[Form, int] | None  # of linears and attentions; None: whatever the target takes


CASES = {
    "all static": Case(STATIC_FIRST, STATIC_FIRST, NO_TARGET, {Form.STATIC: LINEARS + ATTENTIONS}),
    "all by row": Case(ROW_FIRST, ROW_FIRST, NO_TARGET, {Form.PER_TOKEN: LINEARS + ATTENTIONS}),
    "float attention": Case(
        STATIC_FIRST, FLOAT_FIRST, NO_TARGET, {Form.STATIC: LINEARS, Form.FLOAT: ATTENTIONS}
    ),
    "mixed": Case(STATIC_FIRST, STATIC_FIRST, None, None),
}


@pytest.fixture(scope="module", params=CASES)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, Canonical, Quantization]:
    case = CASES[request.param]
    paths = written(tmp_path_factory.mktemp("calibration"), 12)
    settings = QuantizeSettings(Preset.ACCURATE, images=12)
    return case, *quantized(paths, settings, case.linears, case.attentions, case.target_db)


@pytest.mark.parametrize("form", InputForm)
@pytest.mark.parametrize("batch", [1, None, 4])
def test_every_planned_product_runs_in_an_integer_kernel(
    made: tuple[Case, Canonical, Quantization], batch: int | None, form: InputForm, tmp_path: Path
) -> None:
    case, canonical, found = made
    if case.forms is not None:
        products = LINEARS + ATTENTIONS
        assert collections.Counter(layer.form for layer in found.layers[:products]) == case.forms
    model = lower(canonical, lowering(batch, form), found.plan)
    assert_integer(optimised(model, tmp_path).graph, found.plan, LINEARS, ATTENTIONS)


def test_mixed_forms_are_really_mixed(made: tuple[Case, Canonical, Quantization]) -> None:
    case, canonical, found = made
    graph = canonical.model.graph
    assert (len(list(composites(graph, LINEAR))), len(list(composites(graph, ATTENTION)))) == (
        LINEARS,
        ATTENTIONS,
    )
    assert found.plan.embed is not None
    if case.forms is None:
        assert len({layer.form for layer in found.layers}) >= 2


def test_both_input_forms_and_every_batch_give_the_same_logits(
    made: tuple[Case, Canonical, Quantization],
) -> None:
    _, canonical, found = made
    pixels = images(4, 3)
    values = normalize(pixels, PREPROCESS)
    whole = run(lower(canonical, lowering(None), found.plan), pixels)
    single = np.concatenate(
        [run(lower(canonical, lowering(1), found.plan), pixels[i : i + 1]) for i in range(4)]
    )
    as_values = run(lower(canonical, lowering(None, InputForm.PIXEL_VALUES), found.plan), values)
    # the same integers, except where float layers between them round apart and move a value by one step
    for other in (single, as_values):
        assert np.abs(other - whole).max() <= 0.05 * np.abs(whole).max()
        assert np.median(np.abs(other - whole)) <= 1e-4 * np.abs(whole).max()


def test_the_lint_notices_a_product_that_stayed_float(
    made: tuple[Case, Canonical, Quantization], tmp_path: Path
) -> None:
    _, canonical, found = made
    some = dict(found.plan.linears)
    some.popitem()
    model = lower(canonical, lowering(), dataclasses.replace(found.plan, linears=some))
    graph = optimised(model, tmp_path).graph
    with pytest.raises(AssertionError):
        assert_integer(graph, found.plan, LINEARS, ATTENTIONS)
