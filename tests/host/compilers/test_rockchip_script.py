"""What runs in the environment of Rockchip's toolkit: what it gives to the toolkit, and reads of it."""

import ast
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.compilers.printed import PRINTED
from vit_edge.host.compilers import rockchip_script


def test_the_compilers_table_is_read_row_by_row() -> None:
    rows = rockchip_script.layer_table(PRINTED)
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
    plain = rockchip_script.layer_table(PRINTED)
    more = PRINTED.replace("561/384/561  11 ", "561/384/561  0%  11 ").replace(
        "630/384/630", "630/384/630 12.5%"
    )
    assert more.count("%") == 3
    assert rockchip_script.layer_table(more) == plain


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
    wide = rockchip_script.wide_tensors(fused, {"blocks.0.packed"})
    assert list(wide) == ["n", "mixed", "blocks.0.proj_mm"]
    assert set(wide.values()) == {"float16"}
    assert "mixed" not in rockchip_script.wide_tensors(fused, {"blocks.0.attention"})


def entry(low: float, high: float) -> dict[str, object]:
    ends = {"min": [low], "max": [high], "ori_min": [low], "ori_max": [high]}
    return {**ends, "scale": [1.0], "zero_point": [0]}


def test_a_tensor_gets_the_range_of_what_the_file_calls_it(fused: onnx.GraphProto) -> None:
    ranges = {
        "blocks.0.attention.parts.0": {"low": -4.0, "high": 4.0, "range": [-2.0, 3.0]},
        "blocks.0.proj": {"low": -1.0, "high": 1.0, "range": [-0.5, 0.5]},
    }
    parameters = {PACKED: entry(-4.0, 4.01), "blocks.0.proj_mm": entry(-1.0, 1.0)}
    found = rockchip_script.ranges_for(parameters, fused, ranges)
    assert found == {PACKED: [-2.0, 3.0], "blocks.0.proj_mm": [-0.5, 0.5]}


def test_a_name_whose_values_were_others_keeps_the_range_of_the_toolkit(fused: onnx.GraphProto) -> None:
    ranges = {"blocks.0.proj": {"low": -1.0, "high": 1.0, "range": [-0.5, 0.5]}}
    parameters = {"blocks.0.proj_mm": entry(-1.0, 2.0), "n": entry(-1.0, 1.0)}
    assert rockchip_script.ranges_for(parameters, fused, ranges) == {}


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
    made = rockchip_script.edited(CONFIG, {"blocks.0.norm1#1": [-1.5, 2.0]}, {"blocks.0.norm1#1": "float16"})
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
        rockchip_script.answers(Toolkit(2), job, kept)
    rest = Toolkit()
    made = rockchip_script.answers(rest, job, kept)
    assert rest.asked == 1
    assert [float(each[0, 0]) for each in made] == [0.0, 2.0, 4.0]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """As the toolkit's script is given it."""
    monkeypatch.setattr(rockchip_script, "version", lambda _: "2.5.0")
    (tmp_path / "model.onnx").write_bytes(b"model")
    return {"model": str(tmp_path / "model.onnx"), "calibration": [], "platform": "rk3588", "images": ["a"]}


@pytest.mark.parametrize("other", [{"platform": "rk3576"}, {"narrow": ["head"]}, {"algorithm": "mmse"}])
def test_answers_of_another_quantization_are_other_answers(
    job: dict[str, object], other: dict[str, object]
) -> None:
    assert rockchip_script.key_of(job) == rockchip_script.key_of({**job, "images": []})
    assert rockchip_script.key_of(job) != rockchip_script.key_of({**job, **other})


def test_answers_of_another_file_or_another_version_are_other_answers(
    job: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rockchip_script.key_of(job)
    (tmp_path / "model.onnx").write_bytes(b"other")
    other = rockchip_script.key_of(job)
    monkeypatch.setattr(rockchip_script, "version", lambda _: "2.6.0")
    assert len({key, other, rockchip_script.key_of(job)}) == 3


def test_no_module_beside_it_hides_what_it_imports() -> None:
    """Python looks for modules in a script's own folder first."""
    script = Path(rockchip_script.__file__)
    tree = ast.parse(script.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert {"rknn", "onnx", "numpy"} <= roots
    assert not roots & {path.stem for path in script.parent.glob("*.py")}
