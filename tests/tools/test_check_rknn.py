"""What is given to Rockchip's toolkit is what was measured, and what it built is held against it."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tools import check_rknn, rknn_forms, rknn_layers, rknn_toolkit
from tools.rknn_forms import Product, Reach
from vit_edge.host.ort import cpu_session

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
    found = rknn_forms.products_of(model)
    assert [(each.name, each.macs) for each in found] == [
        ("blocks.0.packed", 6 * 8 * 24),
        ("blocks.0.attention", 2 * 6 * 6 * 8),
        ("blocks.0.proj", 6 * 8 * 8),
    ]


def test_a_packed_product_rounds_each_of_its_parts_in_a_range_of_its_own(model: onnx.ModelProto) -> None:
    assert rknn_forms.products_of(model)[0].tensors == ("x", *NAMES.values())


def test_a_range_has_the_least_squared_error_of_those_that_were_tried() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [40.0]]).astype(np.float32)
    found = rknn_forms._reach(values)
    assert (found.low, found.high) == (float(values.min()), 40.0)
    whole = rknn_forms._squares(values, (found.low, found.high))
    assert rknn_forms._squares(values, found.range) <= whole


def test_a_range_holds_zero() -> None:
    found = rknn_forms._reach(np.linspace(3, 9, 100, dtype=np.float32))
    assert found.range[0] == 0.0
    assert found.whole.range == (0.0, 9.0)


def test_extremes_are_those_of_the_float_file(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    reaches = rknn_forms.reaches_of(model, feeds)
    logits = rknn_forms.logits_of(model, feeds)
    assert reaches["logits"].low == pytest.approx(float(logits.min()), rel=1e-5)
    assert reaches["logits"].high == pytest.approx(float(logits.max()), rel=1e-5)


def test_rounding_one_product_rounds_it_and_no_other(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    reaches, products = rknn_forms.reaches_of(model, feeds), rknn_forms.products_of(model)
    made = rknn_forms.rounded(model, [products[2]], reaches)
    onnx.checker.check_model(made, full_check=True)
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    after = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(after["packed.weight"], before["packed.weight"])
    weight = before["blocks.0.proj.weight"]
    step = np.abs(weight).max(0) / 127
    assert np.abs(after["blocks.0.proj.weight"] - weight).max() <= step.max() / 2 + 1e-6
    exact = rknn_forms.logits_of(model, feeds)
    lost = rknn_forms.noise(exact, rknn_forms.logits_of(made, feeds))
    assert 1e-7 < lost < 1e-2


def test_more_products_in_8_bits_are_more_noise(
    model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]
) -> None:
    reaches, products = rknn_forms.reaches_of(model, feeds), rknn_forms.products_of(model)
    exact = rknn_forms.logits_of(model, feeds)
    one, every = (
        rknn_forms.noise(exact, rknn_forms.logits_of(rknn_forms.rounded(model, some, reaches), feeds))
        for some in (products[2:], products)
    )
    assert one < every
    assert rknn_forms.noise(exact, exact) == 0.0


@pytest.mark.parametrize(
    ("share", "narrow"),
    [(1.0, ["a", "b", "c"]), (0.85, ["a", "b"]), (0.45, ["a"]), (0.0, [])],
)
def test_the_noisiest_for_their_multiply_adds_stay_wide_as_far_as_the_share_allows(
    share: float, narrow: list[str]
) -> None:
    products = [Product("a", 50, (), ""), Product("b", 40, (), ""), Product("c", 10, (), "")]
    noises = {"a": 0.01, "b": 0.02, "c": 0.5}
    assert [each.name for each in rknn_forms.chosen(products, noises, share)] == narrow


PRINTED = """
D RKNN: [23:38:36.878] ID   OpType   DataType Target InputShape OutputShape Cycles(DDR/NPU/Total) RW(KB) FullName
D RKNN: [23:38:36.878] 0    InputOperator      INT8     CPU    \\           (1,3,32,32)  0/0/0     0   InputOperator:pixel_values
D RKNN: [23:38:36.878] 1    Conv               INT8     NPU    (1,3,32,32),(96,3,8,8),(96)  (1,96,7,7)  4518/12288/12288  99  Conv:embed.conv_split
D RKNN: [23:38:36.878] 7    Conv               INT8     NPU    (1,96,1,17),(96,96,1,1),(96) (1,96,1,17) 561/384/561  11  Conv:blocks.0.norm1#1_mm#5
D RKNN: [23:38:36.878] 8    Conv               FLOAT16  NPU    (1,96,1,17),(96,96,1,1),(96) (1,96,1,17) 561/384/561  11  Conv:blocks.1.norm1.flat_tp_rs_mm#4
D RKNN: [23:38:36.878] 13   exSDPAttention     FLOAT16  NPU    (3,32,1,17),(3,32,1,17),(3,32,1,17) (3,32,1,17) 0/0/0 4 exSDPAttention:blocks.0.attention.mix_2sdpa
D RKNN: [23:38:36.878] 15   ConvAdd            INT8     NPU    (1,96,1,17),(96,96,1,1),(96),... (1,96,1,17) 630/384/630 12 Conv:blocks.0.proj#2_ConvAdd
D RKNN: [23:38:36.878] 62   Reshape            INT8     CPU    (1,10,1,1),(2)  (1,10)  0/0/0  0  Reshape:logits_mm_tp_rs
"""  # noqa: E501


def test_the_compilers_table_is_read_row_by_row() -> None:
    rows = rknn_toolkit.layer_table(PRINTED)
    assert [(row["operator"], row["type"], row["target"]) for row in rows] == [
        ("InputOperator", "INT8", "CPU"),
        ("Conv", "INT8", "NPU"),
        ("Conv", "INT8", "NPU"),
        ("Conv", "FLOAT16", "NPU"),
        ("exSDPAttention", "FLOAT16", "NPU"),
        ("ConvAdd", "INT8", "NPU"),
        ("Reshape", "INT8", "CPU"),
    ]
    assert rows[1]["made"] == "(1,96,7,7)"


def products() -> list[Product]:
    names = (
        "embed.conv",
        "blocks.0.packed",
        "blocks.1.packed",
        "blocks.0.attention",
        "blocks.0.proj",
        "head",
    )
    return [Product(name, 10, (), "") for name in names]


def test_every_layer_is_counted_to_its_product_and_one_that_is_missing_is_not_in_8_bits() -> None:
    rows = rknn_toolkit.layer_table(PRINTED)
    counts = {each.name: len(rknn_layers.layers_of(each, rows)) for each in products()}
    assert counts == {**dict.fromkeys([each.name for each in products()], 1), "head": 0}
    assert rknn_layers.integer_share(rows, products()) == pytest.approx(3 / 6)


def test_what_was_built_otherwise_than_asked_is_named() -> None:
    rows = rknn_toolkit.layer_table(PRINTED)
    good = {"embed.conv", "blocks.0.packed", "blocks.0.proj"}
    assert rknn_layers.claims_of(rows, good, products()[:5]) == {"as_asked": True, "otherwise": []}
    found = rknn_layers.claims_of(rows, {*good, "blocks.0.attention"}, products())
    assert found["otherwise"] == ["blocks.0.attention: FLOAT16", "head: not in the table"]
    narrower = rknn_layers.claims_of(rows, good - {"blocks.0.proj"}, products()[:5])
    assert narrower["otherwise"] == ["blocks.0.proj: INT8"]


PACKED = "blocks.0.norm1#1_mm#2"  # one of three products that the packed one was split into
FUSED = """
<ir_version: 8, opset_import: ["" : 17, "rk" : 1]>
fused (float[1, 3, 4, 4] pixel_values) => (float[1, 10] logits) {
    n = rk.exNorm(pixel_values)
    p = Conv(n, norm_i0)
    part = Reshape(p, shape)
    mixed = rk.exSDPAttention(part, part, part)
    proj_mm = Conv(mixed, blocks__0__proj__weight)
    logits = rk.exDataConvert(proj_mm)
}
"""


@pytest.fixture
def fused() -> onnx.GraphProto:
    """As the toolkit's first step writes it."""
    graph = onnx.parser.parse_model(FUSED).graph
    names = {
        "p": "blocks.0.norm1#1_mm#2",
        "part": "blocks.0.attention.parts.0",
        "proj_mm": "blocks.0.proj_mm",
    }
    for node in graph.node:
        node.name = "blocks.0.attention.mix_2sdpa" if node.op_type == "exSDPAttention" else node.output[0]
        for place in (node.input, node.output):
            for index, name in enumerate(place):
                place[index] = names.get(name, dotted(name))
    return graph


def test_all_but_the_products_asked_for_is_in_half_precision(
    fused: onnx.GraphProto,
) -> None:
    wide = rknn_toolkit.wide_tensors(fused, {"blocks.0.packed"})
    assert list(wide) == ["n", "mixed", "blocks.0.proj_mm"]
    assert set(wide.values()) == {"float16"}
    assert "mixed" not in rknn_toolkit.wide_tensors(fused, {"blocks.0.attention"})


def entry(low: float, high: float) -> dict[str, object]:
    ends = {"min": [low], "max": [high], "ori_min": [low], "ori_max": [high]}
    return {**ends, "scale": [1.0], "zero_point": [0]}


def test_a_tensor_gets_the_range_of_what_the_file_calls_it(fused: onnx.GraphProto) -> None:
    ranges = {
        "blocks.0.attention.parts.0": {"low": -4.0, "high": 4.0, "range": [-2.0, 3.0]},
        "blocks.0.proj": {"low": -1.0, "high": 1.0, "range": [-0.5, 0.5]},
    }
    parameters = {PACKED: entry(-4.0, 4.01), "blocks.0.proj_mm": entry(-1.0, 1.0)}
    found = rknn_toolkit.ranges_for(parameters, fused, ranges)
    assert found == {PACKED: [-2.0, 3.0], "blocks.0.proj_mm": [-0.5, 0.5]}


def test_a_name_whose_values_were_others_keeps_the_range_of_the_toolkit(fused: onnx.GraphProto) -> None:
    ranges = {"blocks.0.proj": {"low": -1.0, "high": 1.0, "range": [-0.5, 0.5]}}
    parameters = {"blocks.0.proj_mm": entry(-1.0, 2.0), "n": entry(-1.0, 1.0)}
    assert rknn_toolkit.ranges_for(parameters, fused, ranges) == {}


CONFIG = """custom_quantize_layers: {}
quantize_parameters:
    blocks.0.norm1#1:
        dtype: int8
        min:
        -   -2.346177577972412
        max:
        -   2.3499865531921387
        ori_min:
        -   -2.346177577972412
    blocks.0.proj_mm:
        min:
        -   1.0e-40
        max:
        -   3.0
"""


def test_only_types_and_the_ranges_given_are_edited_in_the_configuration() -> None:
    made = rknn_toolkit.edited(CONFIG, {"blocks.0.norm1#1": [-1.5, 2.0]}, {"blocks.0.norm1#1": "float16"})
    assert made == CONFIG.replace("layers: {}", 'layers:\n    "blocks.0.norm1#1": float16').replace(
        "-   -2.346177577972412\n        max", "-   -1.5\n        max"
    ).replace("2.3499865531921387", "2.0")


def words(tmp_path: Path, **given: str) -> list[str]:
    options = {
        "source": "m",
        "calib": str(tmp_path),
        "data": str(tmp_path),
        "toolkit": sys.executable,
        **given,
    }
    return [word for key, value in options.items() for word in (f"--{key}", value)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "has no rknn-toolkit2"),
        ({"toolkit": "/nowhere/python"}, "cannot be run"),
        ({"target": "cpu"}, "says no provider option target_platform"),
        ({"target": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], said: str
) -> None:
    assert check_rknn.main(words(tmp_path, **given)) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("share", "1.5"), ("share", "some"), ("count", "0"), ("vendor", "x")]
)
def test_options_out_of_range_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        check_rknn.main(words(tmp_path, **{option: value}))
    assert f"--{option}" in capsys.readouterr().err


def test_a_reach_goes_to_the_toolkit_with_the_keys_that_it_reads() -> None:
    assert check_rknn._as_json({"x": Reach(-1.0, 2.0, (-0.5, 1.5))}) == {
        "x": {"low": -1.0, "high": 2.0, "range": (-0.5, 1.5)}
    }


def test_the_file_for_the_toolkit_is_one_that_it_takes() -> None:
    """Opset 17, the embedding a convolution, Gelu spelled out, the axis of LayerNormalization stated."""
    from vit_edge.host.convert.export import export
    from vit_edge.host.convert.optimize import normalisation_of
    from vit_edge.host.lower.model import LowerSettings, lower
    from vit_edge.host.rewrite.canonical import canonicalise
    from vit_edge.host.sources import SourceOptions, resolve
    from vit_edge.targets import load_target

    digits = Path(__file__).parents[2] / "models" / "digits_vit"
    source = resolve(str(digits), SourceOptions())
    canonical = canonicalise(export(source)[0], source.name)
    form = load_target("rknn-rk3588").form
    made = lower(canonical, LowerSettings(form, normalisation_of(source.preprocess)))
    assert [opset.version for opset in made.opset_import] == [17]
    assert [size.dim_value for size in made.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 32, 32]
    nodes = {node.op_type for node in made.graph.node}
    assert "Conv" in nodes
    assert not nodes & {"Gelu", "QuantizeLinear", "DequantizeLinear"}
    norms = [node for node in made.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert all("axis" in {attribute.name for attribute in node.attribute} for node in norms)
    cpu_session(made.SerializeToString())
