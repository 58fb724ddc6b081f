"""What is given to Rockchip's toolkit is what was measured, and what it built is held against it."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.package.digits import Digits
from tools import check_rknn, rknn_cases, rknn_layers, rknn_toolkit
from vit_edge.bundle import Bundle, FileEntry, read_bundle, write_bundle
from vit_edge.errors import BundleError, UsageError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.hybrid.choose import Choice
from vit_edge.host.hybrid.products import Product
from vit_edge.host.hybrid.reaches import Reach
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import cpu_session
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import Role, compiler_name, lowered_name
from vit_edge.targets import load_target

DIGITS = Path(__file__).parents[2] / "models" / "digits_vit"
TARGET = "rknn-rk3588"

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


def test_a_table_with_the_use_of_the_device_is_read_alike() -> None:
    """As of the RK3576: a column more, where there is something to say."""
    plain = rknn_toolkit.layer_table(PRINTED)
    more = PRINTED.replace("561/384/561  11 ", "561/384/561  0%  11 ").replace(
        "630/384/630", "630/384/630 12.5%"
    )
    assert more.count("%") == 3
    assert rknn_toolkit.layer_table(more) == plain


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
                place[index] = names.get(name, name.replace("__", "."))
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


class Toolkit:
    """Answers with what it is given."""

    def __init__(self, most: int = 10) -> None:
        self.asked, self.most = 0, most

    def inference(self, inputs: list[np.ndarray], **_: object) -> list[np.ndarray]:
        """The sum of each image."""
        if self.asked == self.most:
            raise KeyboardInterrupt
        self.asked += 1
        return [inputs[0].sum(keepdims=True)]


def images(folder: Path) -> dict[str, object]:
    for index in range(3):
        np.save(folder / f"{index}.npy", np.full((1, 2), index, np.float32))
    return {"images": [str(folder / f"{index}.npy") for index in range(3)]}


def test_the_simulator_is_not_asked_again_for_what_it_answered(tmp_path: Path) -> None:
    job, kept = images(tmp_path), tmp_path / "answers"
    with pytest.raises(KeyboardInterrupt):
        rknn_toolkit.answers(Toolkit(2), job, kept)
    rest = Toolkit()
    made = rknn_toolkit.answers(rest, job, kept)
    assert rest.asked == 1
    assert [float(each[0, 0]) for each in made] == [0.0, 2.0, 4.0]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """As the toolkit's script is given it."""
    monkeypatch.setattr(rknn_toolkit, "version", lambda _: "2.5.0")
    (tmp_path / "model.onnx").write_bytes(b"model")
    return {"model": str(tmp_path / "model.onnx"), "calibration": [], "platform": "rk3588", "images": ["a"]}


@pytest.mark.parametrize("other", [{"platform": "rk3576"}, {"narrow": ["head"]}, {"algorithm": "mmse"}])
def test_answers_of_another_quantization_are_other_answers(
    job: dict[str, object], other: dict[str, object]
) -> None:
    assert rknn_toolkit.key_of(job) == rknn_toolkit.key_of({**job, "images": []})
    assert rknn_toolkit.key_of(job) != rknn_toolkit.key_of({**job, **other})


def test_answers_of_another_file_or_another_version_are_other_answers(
    job: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rknn_toolkit.key_of(job)
    (tmp_path / "model.onnx").write_bytes(b"other")
    other = rknn_toolkit.key_of(job)
    monkeypatch.setattr(rknn_toolkit, "version", lambda _: "2.6.0")
    assert len({key, other, rknn_toolkit.key_of(job)}) == 3


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
    assert rknn_cases.as_json({"x": Reach(-1.0, 2.0, (-0.5, 1.5))}) == {
        "x": {"low": -1.0, "high": 2.0, "range": (-0.5, 1.5)}
    }


def given(digits: Digits) -> argparse.Namespace:
    return argparse.Namespace(calib=digits.images / "calibration", data=digits.images / "test", count=3)


def with_types(digits: Digits, out: Path, told: bytes) -> Bundle:
    """The digits' bundle with a file for the NPU and what lies beside it."""
    source = resolve(str(DIGITS), SourceOptions())
    form = LowerSettings(load_target(TARGET).form, normalisation_of(source.preprocess))
    model = lower(canonicalise(export(source)[0], source.name), form).SerializeToString()
    old = read_bundle(digits.bundle)
    files = {name: old.read(name) for name in old.manifest.files}
    added = {lowered_name(TARGET): (model, Role.LOWERED), compiler_name(TARGET): (told, Role.CONFIG)}
    entries = {name: FileEntry.of(data, role) for name, (data, role) in added.items()}
    manifest = dataclasses.replace(old.manifest, files={**old.manifest.files, **entries})
    return write_bundle(out, files | {name: data for name, (data, _) in added.items()}, manifest)


def test_a_bundle_gives_its_file_and_its_types(digits: Digits, tmp_path: Path) -> None:
    reach = Reach(-1.0, 2.0, (-0.5, 1.5))
    told = Choice({"embed.conv": reach}, ("head",), "least squares", {"least squares": 30.0}, {"head": 40.0})
    bundle = with_types(digits, tmp_path / "bundle", json.dumps(told.to_json()).encode())
    work = tmp_path / "work"
    work.mkdir()
    start, found = rknn_cases.from_bundle(bundle, load_target(TARGET), given(digits), work)
    assert found == told
    assert start.model.read_bytes() == bundle.read(lowered_name(TARGET))
    assert (len(start.calibration), len(start.images), start.exact.shape) == (20, 3, (3, 10))
    assert len(start.fewer(2).images) == 2
    np.testing.assert_array_equal(start.fewer(2).exact, start.exact[[0, 1]])


def test_a_bundle_for_something_else_is_refused(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model_rknn-rk3588\.quantization\.json' is not listed"):
        rknn_cases.from_bundle(read_bundle(digits.bundle), load_target(TARGET), given(digits), tmp_path)


@pytest.mark.parametrize("told", [b"{}", b"no json", b"[1]"])
def test_types_of_another_version_are_refused(digits: Digits, tmp_path: Path, told: bytes) -> None:
    bundle = with_types(digits, tmp_path / "bundle", told)
    with pytest.raises(UsageError, match="build the bundle again"):
        rknn_cases.from_bundle(bundle, load_target(TARGET), given(digits), tmp_path)


def test_the_file_for_the_toolkit_is_one_that_it_takes() -> None:
    """Opset 17, the embedding a convolution, Gelu spelled out, the axis of LayerNormalization stated."""
    source = resolve(str(DIGITS), SourceOptions())
    canonical = canonicalise(export(source)[0], source.name)
    form = load_target(TARGET).form
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
