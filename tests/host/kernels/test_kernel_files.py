"""Whole INT8 files for vit-edge-kernels: the portable file's numbers, in other operators."""

import collections
import functools
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.kernels.running import NEEDS_KERNELS, instructions, session
from tests.host.quantize.forced import FLOAT_FIRST, ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import PREPROCESS, images, lowering, written
from vit_edge.host.kernels.convert import to_kernels
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.types import Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import KERNELS_DOMAIN, Arithmetic, InputForm
from vit_edge.verify.metrics import logit_sqnr_db

__all__ = ["instructions"]
CASES: dict[str, tuple[Costs, Costs]] = {
    "static": (STATIC_FIRST, STATIC_FIRST),
    "by row": (ROW_FIRST, ROW_FIRST),
    "float attention": (STATIC_FIRST, FLOAT_FIRST),
}
EACH = pytest.mark.parametrize("case", CASES)
PIXELS = images(8, seed=5)


@functools.cache
def searched(case: str, folder: str) -> tuple[Canonical, Quantization]:
    """The small model, and what was chosen for it by stated costs."""
    linears, attentions = CASES[case]
    settings = QuantizeSettings(images=6, arithmetics=(Arithmetic.SATURATING,))
    return quantized(written(Path(folder), 6), settings, linears, attentions)


def census(model: onnx.ModelProto) -> collections.Counter[str]:
    """The operators of ours, counted."""
    return collections.Counter(node.op_type for node in model.graph.node if node.domain == KERNELS_DOMAIN)


@functools.cache
def files(
    case: str, folder: str, form: InputForm
) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """The float file, the portable one, and that for the kernels."""
    canonical, found = searched(case, folder)
    asked = lowering(None, form)
    portable = lower(canonical, asked, found.plan)
    return lower(canonical, asked, FLOAT), portable, to_kernels(portable)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("images"))


def logits(model: onnx.ModelProto) -> np.ndarray:
    running = session(model)
    given = running.get_inputs()[0].name
    feed = PIXELS if given == InputForm.PIXELS.value else normalize(PIXELS, PREPROCESS)
    made: np.ndarray = running.run(None, {given: feed})[0]
    return made


@NEEDS_KERNELS
@EACH
@pytest.mark.parametrize("form", InputForm)
def test_the_answers_are_as_near_to_float_as_the_portable_file_s(
    case: str, form: InputForm, folder: str, instructions: str
) -> None:
    exact, portable, native = (logits(model) for model in files(case, folder, form))
    ours, theirs = logit_sqnr_db(exact, native), logit_sqnr_db(exact, portable)
    # A value between two codes may fall to either side, and the two files then err apart, each as far.
    assert ours > theirs - 2.5, instructions
    assert logit_sqnr_db(portable, native) > theirs


@NEEDS_KERNELS
@EACH
def test_batches_give_the_answers_of_single_images(case: str, folder: str) -> None:
    native = files(case, folder, InputForm.PIXELS)[2]
    running = session(native)
    together = running.run(None, {"pixels": PIXELS})[0]
    alone = np.concatenate([running.run(None, {"pixels": PIXELS[i : i + 1]})[0] for i in range(len(PIXELS))])
    # onnxruntime's float operators round by the place of a value; where no code differs, that is all
    np.testing.assert_allclose(together, alone, atol=1e-5)


@EACH
def test_every_integer_product_is_an_operator_of_ours(case: str, folder: str) -> None:
    _, portable, native = files(case, folder, InputForm.PIXELS)
    made_by = {name: node for node in portable.graph.node for name in node.output}
    constants = {tensor.name for tensor in portable.graph.initializer}
    weighted, computed = 0, 0  # products of codes with a weight, and with one another
    for node in portable.graph.node:
        second = made_by.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if second is not None and second.op_type == "DequantizeLinear":
            weighted += second.input[0] in constants
            computed += second.input[0] not in constants
    assert weighted >= 14
    after = census(native)
    assert after["Linear"] + after["LinearCodes"] == weighted
    assert 2 * (after["Attention"] + after["AttentionCodes"]) == computed
    left = {node.op_type for node in native.graph.node if node.domain == ""}
    assert not left & {"Gemm", "DequantizeLinear", "Gelu"}


@NEEDS_KERNELS
@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_has_the_operators_of_a_free_one(batch: int, folder: str) -> None:
    free = files("static", folder, InputForm.PIXELS)[2]
    canonical, found = searched("static", folder)
    fixed = to_kernels(lower(canonical, lowering(batch, InputForm.PIXELS), found.plan))[0]
    assert census(fixed) == census(free)
    few = PIXELS[:batch]
    given, expected = (session(model).run(None, {"pixels": few})[0] for model in (fixed, free))
    np.testing.assert_allclose(given, expected, atol=1e-5)  # as between batches


def test_a_float_file_stays_as_it_is(folder: str) -> None:
    exact = files("static", folder, InputForm.PIXELS)[0]
    same, outcomes = to_kernels(exact)
    assert [node.op_type for node in same.graph.node] == [node.op_type for node in exact.graph.node]
    assert {each.domain for each in same.opset_import} == {""}
    assert not any(outcome.fired for outcome in outcomes)
