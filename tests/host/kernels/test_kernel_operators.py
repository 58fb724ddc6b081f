"""Each operator of vit-edge-kernels against numpy, on drawn sizes, for every instruction set of this CPU."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import erf, expit

from tests.host.kernels.running import NEEDS_KERNELS, Array, Attributes, instructions, operator

pytestmark = [NEEDS_KERNELS, pytest.mark.usefixtures("instructions")]

FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
SIZES = {"rows": st.integers(1, 40), "depth": st.integers(1, 70), "columns": st.integers(1, 150)}
# The fixture that chooses the instruction set stays as it is from one drawn example to the next.
DRAWN = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
ACTIVATIONS = {
    0: lambda x: x,
    1: lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    2: lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    3: lambda x: x * expit(1.702 * x),
    4: lambda x: np.maximum(x, 0),
}
__all__ = ["instructions"]


def linear_inputs(rng: np.random.Generator, rows: int, depth: int, columns: int) -> list[Array]:
    """x, row scales, residual, weight, scale, start, bias; weights of seven bits do not saturate."""
    return [
        rng.integers(0, 256, (rows, depth)).astype(np.uint8),
        rng.uniform(0.1, 3, (rows, 1)).astype(np.float32),
        rng.normal(size=(rows, columns)).astype(np.float32),
        rng.integers(-64, 64, (depth, columns)).astype(np.int8),
        rng.uniform(1e-4, 2e-3, columns).astype(np.float32),
        rng.integers(-500, 500, columns).astype(np.int32),
        rng.normal(size=columns).astype(np.float32),
    ]


def linear_exactly(inputs: list[Array | None], activation: int, zero: int, scale: float) -> Array:
    """The same in float64."""
    x, rows, residual, weight, weight_scale, start, bias = (
        None if each is None else each.astype(np.float64) for each in inputs
    )
    assert x is not None
    assert weight is not None
    assert weight_scale is not None
    assert start is not None
    made = ((x - zero) @ weight + start) * (weight_scale * scale)
    made = made if rows is None else made * rows
    answer: Array = ACTIVATIONS[activation](made if bias is None else made + bias)
    return answer if residual is None else answer + residual


@given(seed=st.integers(0, 2**32 - 1), left_out=st.sets(st.sampled_from([1, 2, 6])), **SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=["none", "gelu", "gelu tanh", "swish", "relu"])
@DRAWN
def test_a_linear_gives_what_numpy_gives(
    activation: int, seed: int, left_out: set[int], rows: int, depth: int, columns: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs: list[Array | None] = list(linear_inputs(rng, rows, depth, columns))
    for place in left_out:
        inputs[place] = None
    attributes: Attributes = {"input_scale": 0.05, "input_zero_point": 17, "biased": int(6 not in left_out)}
    attributes |= {"activation": activation, "alpha": 1.702}
    given_inputs = inputs[:6] if 6 in left_out else inputs
    found = operator("Linear", given_inputs, attributes, [FLOAT], constant=(3, 4, 5, 6))[0]
    expected = linear_exactly(inputs, activation, 17, float(np.float32(0.05)))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=3e-6)  # values reach about 100


@given(seed=st.integers(0, 2**32 - 1), by_row=st.booleans(), one_sided=st.booleans(), **SIZES)
@DRAWN
def test_codes_are_those_of_the_floats(
    seed: int, by_row: bool, one_sided: bool, rows: int, depth: int, columns: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs = linear_inputs(rng, rows, depth, columns)
    attributes: Attributes = {"input_scale": 0.05, "input_zero_point": 128, "biased": 1, "activation": 1}
    reach: Attributes = {"scale": 0.0049 if by_row else 0.03, "zero_point": 51, "by_row": int(by_row)}
    reach |= {"floor": 0.68, "one_sided": int(one_sided)}
    outputs = [UINT8, FLOAT] if by_row else [UINT8]
    made = operator("LinearCodes", inputs, attributes | reach, outputs, constant=(3, 4, 5, 6))
    values = linear_exactly(list(inputs), 1, 128, float(np.float32(0.05)))
    largest = values if one_sided else np.abs(values)
    divisor = np.maximum(largest.max(axis=1, keepdims=True), 0.68) if by_row else 1.0
    steps = np.clip(values / divisor / reach["scale"] + 51, 0, 255)
    # half a step, and what float32 may take off where a value lies in the middle of two
    assert np.abs(made[0].astype(float) - steps).max() <= 0.5 + 1e-3
    if by_row:
        np.testing.assert_allclose(made[1], divisor, rtol=2e-6)


@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 3),
    heads=st.integers(1, 4),
    width=st.sampled_from([1, 8, 16, 24, 32, 64, 72]),
    queries=st.integers(1, 9),
    keys=st.integers(1, 80),
    static=st.booleans(),
)
@DRAWN
def test_attention_gives_what_numpy_gives(
    seed: int, images: int, heads: int, width: int, queries: int, keys: int, static: bool
) -> None:
    rng = np.random.default_rng(seed)
    columns = heads * width
    q = rng.integers(0, 256, (images * queries, columns + 3)).astype(np.uint8)
    kv = rng.integers(0, 256, (images * keys, 2 * columns)).astype(np.uint8)
    probability = 1 / 255 if static else 0.0
    attributes: Attributes = {"heads": heads, "width": width, "queries": queries, "keys": keys}
    attributes |= {"query_offset": 2, "key_offset": 0, "value_offset": columns}
    attributes |= {"query_scale": 0.003, "query_zero_point": 120, "key_scale": 0.02}
    attributes |= {"value_scale": 0.03, "probability_scale": probability}
    found = operator("Attention", [q, kv, kv], attributes, [FLOAT])[0]

    def split(codes: Array, rows: int, zero: int, scale: float) -> Array:
        real = (codes.astype(np.float64) - zero) * float(np.float32(scale))
        return real.reshape(images, rows, heads, width).transpose(0, 2, 1, 3)

    k, v = split(kv[:, :columns], keys, 128, 0.02), split(kv[:, columns:], keys, 128, 0.03)
    scores = split(q[:, 2 : 2 + columns], queries, 120, 0.003) @ k.transpose(0, 1, 3, 2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / total if static else weights
    steps = np.rint(weights * 255)
    mixed = steps @ v / 255 / (1 if static else total)
    expected = mixed.transpose(0, 2, 1, 3).reshape(images * queries, columns)
    # one step of one weight (1/255) times a value of at most 3.9 where float32 rounds a middle the other way
    slack = 0.02 * (np.abs(weights * 255 % 1 - 0.5) < 1e-3).any()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 + slack)


@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), columns=st.integers(2, 200), by_row=st.booleans()
)
@DRAWN
def test_a_norm_gives_the_codes_of_layer_normalization(
    seed: int, rows: int, columns: int, by_row: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 2, (rows, columns)).astype(np.float32)
    scale, bias = (rng.normal(size=columns).astype(np.float32) for _ in range(2))
    reach: Attributes = {
        "scale": 0.0078 if by_row else 0.05,
        "zero_point": 128,
        "by_row": int(by_row),
        "floor": 1e-6,
    }
    made = operator(
        "NormCodes",
        [x, scale, bias],
        {"epsilon": 1e-6} | reach,
        [UINT8, FLOAT] if by_row else [UINT8],
        (1, 2),
    )
    wide = x.astype(np.float64)
    unit = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-6)
    values = unit * scale + bias
    divisor = np.abs(values).max(1, keepdims=True) if by_row else 1.0
    steps = np.clip(values / divisor / reach["scale"] + 128, 0, 255)
    assert np.abs(made[0].astype(float) - steps).max() <= 0.5 + 2e-3


def test_several_threads_give_the_same_bytes() -> None:
    inputs = linear_inputs(np.random.default_rng(0), 197, 192, 768)
    attributes: Attributes = {"input_scale": 0.05, "input_zero_point": 17, "biased": 1, "activation": 1}
    one, two = (
        operator("Linear", inputs, attributes, [FLOAT], constant=(3, 4, 5, 6), threads=threads)[0]
        for threads in (1, 2)
    )
    assert np.array_equal(one, two)


def test_values_beyond_every_range_are_cut_off() -> None:
    x = np.asarray([[1e30, -1e30, 3e38, -3e38] * 4], np.float32)
    reach: Attributes = {"scale": 1.0, "zero_point": 128, "by_row": 1, "floor": 1e-6, "one_sided": 0}
    codes, divisor = operator("RowCodes", [x], reach, [UINT8, FLOAT])
    assert divisor == np.float32(3e38)
    assert codes.tolist() == [[128, 128, 129, 127] * 4]


WRONG = {
    "another depth": ([(5, 7), None, None, (8, 3), (3,), (3,)], "another length than the weight's depth"),
    "rows of another number": ([(5, 8), (4, 1), None, (8, 3), (3,), (3,)], "another number of rows"),
    "a residual of another shape": ([(5, 8), None, (5, 2), (8, 3), (3,), (3,)], "residual of another shape"),
    "a scale for other columns": ([(5, 8), None, None, (8, 3), (2,), (3,)], "a scale and a start per column"),
}


@pytest.mark.parametrize(("shapes", "message"), WRONG.values(), ids=WRONG)
def test_operands_that_do_not_fit_are_refused(shapes: list[tuple[int, ...] | None], message: str) -> None:
    kinds = (np.uint8, np.float32, np.float32, np.int8, np.float32, np.int32)
    inputs = [None if s is None else np.ones(s, kind) for s, kind in zip(shapes, kinds, strict=True)]
    with pytest.raises(Exception, match=message):
        operator("Linear", inputs, {"input_scale": 1.0}, [FLOAT], constant=(3, 4, 5))


def test_a_weight_that_is_computed_is_refused() -> None:
    inputs = linear_inputs(np.random.default_rng(0), 2, 4, 3)[:6]
    with pytest.raises(Exception, match="must be a constant"):
        operator("Linear", inputs, {"input_scale": 1.0}, [FLOAT], constant=(4, 5))


@pytest.mark.parametrize(
    ("width", "rows", "message"),
    [(0, 6, "1 to 512"), (1024, 6, "1 to 512"), (16, 5, "do not fit together")],
)
def test_an_attention_that_does_not_fit_is_refused(width: int, rows: int, message: str) -> None:
    x = np.ones((rows, max(1, 3 * width)), np.uint8)
    attributes: Attributes = {"heads": 1, "width": width, "queries": 3, "keys": 3, "value_offset": 2 * width}
    attributes |= {"query_scale": 1.0, "key_scale": 1.0, "value_scale": 1.0}
    with pytest.raises(Exception, match=message):
        operator("Attention", [x, x, x], attributes, [FLOAT])
