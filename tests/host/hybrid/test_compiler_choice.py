"""Which products are computed in 8 bits, and in which ranges, where a compiler quantizes a float file."""

import numpy as np
import onnx
import pytest

from vit_edge.host.hybrid import choose, products, reaches, rounding
from vit_edge.host.hybrid.products import Product

WEIGHTS = np.random.default_rng(2).normal(size=(3, 8, 8)).astype(np.float32) / 3


def dotted(name: str) -> str:
    """The parser of graphs takes no dots."""
    return name.replace("__", ".")


def floats(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6f}" for value in values.ravel())


MODEL = f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float[1, 6, 8] pixel_values) => (float[6, 8] logits)
<float[8, 24] packed__weight = {{{floats(np.concatenate(list(WEIGHTS), 1))}}},
 float[8, 8] blocks__0__proj__weight = {{{floats(WEIGHTS[0])}}},
 int64[2] rows = {{6, 8}}, int64[4] heads = {{1, 6, 3, 8}}, int64[3] one = {{1, 1, 1}},
 int64[2] flat = {{6, 8}}> {{
    x = Reshape(pixel_values, rows)
    blocks__0__qkv = Gemm(x, packed__weight)
    blocks__0__attention__rows = Reshape(blocks__0__qkv, heads)
    blocks__0__attention__heads = Transpose <perm = [0, 2, 1, 3]> (blocks__0__attention__rows)
    q, k, v = Split <axis = 1> (blocks__0__attention__heads, one)
    turned = Transpose <perm = [0, 1, 3, 2]> (k)
    scores = MatMul(q, turned)
    probabilities = Softmax <axis = -1> (scores)
    mixed = MatMul(probabilities, v)
    joined = Reshape(mixed, flat)
    logits = Gemm(joined, blocks__0__proj__weight)
}}
"""
NAMES = {
    "q": "blocks.0.attention.parts.0",
    "k": "blocks.0.attention.parts.1",
    "v": "blocks.0.attention.parts.2",
}


@pytest.fixture
def model() -> onnx.ModelProto:
    """One attention with its layers, under the names that files of ours give."""
    made = onnx.parser.parse_model(MODEL)
    names = {"blocks__0__qkv": "blocks.0.qkv", "mixed": "blocks.0.attention.mix", "logits": "blocks.0.proj"}
    for node in made.graph.node:
        node.name = names.get(node.output[0], node.output[0])
        for place in (node.input, node.output):
            for index, name in enumerate(place):
                place[index] = NAMES.get(name, dotted(name))
    for constant in made.graph.initializer:
        constant.name = dotted(constant.name)
    return made


@pytest.fixture
def feeds() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(3)
    return [{"pixel_values": random.normal(size=(1, 6, 8)).astype(np.float32)} for _ in range(4)]


def test_products_are_found_with_their_multiply_adds(model: onnx.ModelProto) -> None:
    found = products.products_of(model)
    assert [(each.name, each.macs) for each in found] == [
        ("blocks.0.packed", 6 * 8 * 24),
        ("blocks.0.attention", 2 * 6 * 6 * 8),
        ("blocks.0.proj", 6 * 8 * 8),
    ]


def test_a_packed_product_rounds_each_of_its_parts_in_a_range_of_its_own(model: onnx.ModelProto) -> None:
    assert products.products_of(model)[0].tensors == ("x", *NAMES.values())


def squares(values: np.ndarray, ends: tuple[float, float]) -> float:
    """What rounding to 256 steps between two ends adds up to."""
    step, zero = reaches.steps_of(ends)
    rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float(np.square(rounded - values).sum())


def test_a_range_loses_less_than_the_whole_one() -> None:
    values = np.random.default_rng(0).laplace(size=50000).astype(np.float32)
    found = reaches.reach_of(values)
    assert (found.low, found.high) == (float(values.min()), float(values.max()))
    assert squares(values, found.range) < 0.95 * squares(values, found.whole.range)


GELU = """
<ir_version: 8, opset_import: ["" : 17]>
gelu (float[2, 4] x) => (float[2, 4] made)
<float root = {1.41421356}, float[1] one = {1}, float half = {0.5}> {
    scaled = Div(x, root)
    erf = Erf(scaled)
    raised = Add(erf, one)
    product = Mul(x, raised)
    made = Mul(product, half)
}
"""


def test_a_range_in_front_of_a_non_linearity_is_that_of_what_it_lets_through() -> None:
    graph = onnx.parser.parse_model(GELU)
    behind = reaches.function_behind(graph, "x")
    np.testing.assert_allclose(
        behind(np.array([-9.0, 0.0, 1.0], np.float32)), [0.0, 0.0, 0.8413447], atol=1e-6
    )
    values = np.random.default_rng(0).normal(-3, 3, 20000).astype(np.float32)
    plain, found = reaches.reach_of(values), reaches.reach_of(values, behind)
    assert plain.range[0] < -8.0
    assert -4.0 < found.range[0] < -2.0  # GELU(-4) is -0.0001


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("(float[2, 4] made)", "(float[2, 4] made, float[2, 4] scaled)", [-1.0, 2.0]),
        (
            "float half = {0.5}",
            "float[2] half = {0.5, 1}",
            [-0.3173105, 3.9089997],
        ),  # x (1 + erf), not halved
    ],
    ids=["something else reads it: as it is", "what is no number changes it: up to there"],
)
def test_a_function_ends_where_a_tensor_is_read_otherwise(
    before: str, after: str, expected: list[float]
) -> None:
    behind = reaches.function_behind(onnx.parser.parse_model(GELU.replace(before, after)), "x")
    made = behind(np.array([-1.0, 2.0], np.float32))
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_range_holds_zero() -> None:
    found = reaches.reach_of(np.linspace(3, 9, 100, dtype=np.float32))
    assert found.range[0] == 0.0
    assert found.whole.range == (0.0, 9.0)


def test_extremes_are_those_of_the_float_file(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    found = reaches.reaches_of(model, feeds)
    logits = rounding.logits_of(model, feeds)
    assert found["logits"].low == pytest.approx(float(logits.min()), rel=1e-5)
    assert found["logits"].high == pytest.approx(float(logits.max()), rel=1e-5)


def test_rounding_one_product_rounds_it_and_no_other(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    found, every = reaches.reaches_of(model, feeds), products.products_of(model)
    made = rounding.rounded(model, [every[2]], found)
    onnx.checker.check_model(made, full_check=True)
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    after = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(after["packed.weight"], before["packed.weight"])
    weight = before["blocks.0.proj.weight"]
    step = np.abs(weight).max(0) / 127
    assert np.abs(after["blocks.0.proj.weight"] - weight).max() <= step.max() / 2 + 1e-6
    exact = rounding.logits_of(model, feeds)
    lost = rounding.noise(exact, rounding.logits_of(made, feeds))
    assert 1e-7 < lost < 1e-2


def test_more_products_in_8_bits_are_more_noise(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    found, every = reaches.reaches_of(model, feeds), products.products_of(model)
    exact = rounding.logits_of(model, feeds)
    one, all_of_them = (
        rounding.noise(exact, rounding.logits_of(rounding.rounded(model, some, found), feeds))
        for some in (every[2:], every)
    )
    assert one < all_of_them
    assert rounding.noise(exact, exact) == 0.0


@pytest.mark.parametrize(
    ("share", "narrow"),
    [(1.0, ["a", "b", "c"]), (0.85, ["a", "b"]), (0.45, ["a"]), (0.0, [])],
)
def test_the_noisiest_for_their_multiply_adds_stay_wide_as_far_as_the_share_allows(
    share: float, narrow: list[str]
) -> None:
    products = [Product("a", 50, (), ""), Product("b", 40, (), ""), Product("c", 10, (), "")]
    noises = {"a": 0.01, "b": 0.02, "c": 0.5}
    assert [each.name for each in choose.chosen(products, noises, share)] == narrow


def test_a_choice_is_made_on_the_logits_and_says_what_it_expects(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    told: list[tuple[int, int]] = []
    found = choose.choice(model, feeds, 0.5, {}, lambda done, count: told.append((done, count)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert set(found.alone_db) == {"blocks.0.packed", "blocks.0.attention", "blocks.0.proj"}
    assert 0 < len(found.narrow) < 3
    assert found.expected_db[found.found_by] == max(found.expected_db.values())
    exact = rounding.logits_of(model, feeds)
    narrow = [each for each in products.products_of(model) if each.name in found.narrow]
    made = rounding.logits_of(rounding.rounded(model, narrow, found.ranges), feeds)
    expected = -10 * np.log10(rounding.noise(exact, made))
    assert found.expected_db[found.found_by] == pytest.approx(expected, abs=0.01)


def test_what_is_known_of_a_layers_input_is_taken_for_it(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    known = {"blocks.0.proj": (-0.125, 0.25), "blocks.0.fc1": (-9.0, 9.0)}
    every, found = products.products_of(model), reaches.reaches_of(model, feeds)
    made = choose.with_known(found, every, known)
    changed = {name for name in found if made[name].range != found[name].range}
    assert changed == {every[2].tensors[0]}
    assert made[every[2].tensors[0]].range == (-0.125, 0.25)
