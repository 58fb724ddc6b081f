"""Reading ONNX files that may come from anybody, and writing ones that tell nothing about this machine."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vit_edge.errors import ModelError
from vit_edge.host.convert.onnx_io import finish, parse_onnx, read_metadata, read_onnx, save_onnx, to_bytes
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

SPEC = PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.BILINEAR, (0.5,) * 3, (0.25,) * 3)
STAMP = ModelMetadata(("ant", "bee"), SPEC, (("session.qdqisint8allowed", "1"),), ("toy", "0" * 64))


def toy(op_type: str = "Relu") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["t"]), helper.make_node(op_type, ["t"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def external_initializer(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_attribute(model: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", 1, [1], [0.0]))
    constant.attribute[0].t.external_data.add(key="location", value="../weights.bin")
    model.graph.node.insert(0, constant)


def no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(toy().SerializeToString())
    assert read_onnx(tmp_path / "m.onnx") == toy()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "is empty"),
        (b"this is no protobuf at all", "is no ONNX model"),
        (toy().SerializeToString()[:-7], "is no ONNX model"),
        (b"\x08\x0a", "is no ONNX model with inputs, outputs and nodes"),
    ],
    ids=["empty", "garbage", "truncated", "without a graph"],
)
def test_bytes_that_are_no_model_are_refused_by_name(tmp_path: Path, data: bytes, cause: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=cause) as raised:
        read_onnx(tmp_path / "m.onnx")
    assert "m.onnx" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (external_initializer, "keeps w in another file"),
        (external_attribute, "keeps v in another file"),
        (no_nodes, "inputs, outputs and nodes"),
    ],
)
def test_models_that_are_not_whole_are_refused(spoil: Callable[[onnx.ModelProto], None], cause: str) -> None:
    model = toy()
    spoil(model)
    with pytest.raises(ModelError, match=cause):
        parse_onnx(model.SerializeToString(), "m.onnx")


@pytest.mark.parametrize(("name", "cause"), [("absent.onnx", "does not exist"), (".", "no regular file")])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        read_onnx(tmp_path / name)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")

    def deny(path: Path, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(ModelError, match="Permission denied"):
        read_onnx(tmp_path / "m.onnx")


def test_the_stamp_survives_writing_and_reading() -> None:
    assert read_metadata(finish(toy(), STAMP), "m.onnx") == STAMP
    assert read_metadata(finish(toy(), ModelMetadata()), "m.onnx") == ModelMetadata()


def test_labels_of_any_script_survive() -> None:
    metadata = ModelMetadata(labels=("Käfer", "鯉", 'quote " and \\'))
    assert read_metadata(finish(toy(), metadata), "m.onnx").labels == metadata.labels


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("vit_edge.labels", '"ant"'),
        ("vit_edge.labels", "[1]"),
        ("vit_edge.labels", "[" * 100_000),
        ("vit_edge.preprocess", '{"height": 8}'),
        ("vit_edge.session_options", '{"session.load_model_format": "ORT"}'),
        ("vit_edge.source", '{"name": "x", "sha256": "short"}'),
    ],
)
def test_malformed_metadata_of_ours_is_refused_by_key(key: str, text: str) -> None:
    model = toy()
    helper.set_model_props(model, {key: text})
    with pytest.raises(ModelError, match=f"m.onnx has unusable {key} metadata"):
        read_metadata(model, "m.onnx")


def test_finishing_leaves_no_prose_paths_or_traces_anywhere() -> None:
    trace = "/home/someone/project/model.py, line 3"
    model = toy()
    model.doc_string = model.graph.doc_string = trace
    branch = helper.make_graph([helper.make_node("Relu", ["w"], ["z"])], "branch", [], [])
    branch.doc_string = branch.node[0].doc_string = trace
    model.graph.node.append(helper.make_node("If", ["w"], ["unused"], then_branch=branch))
    model.graph.input[0].doc_string = model.graph.initializer[0].doc_string = trace
    for holder in (model, model.graph, model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        holder.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    data = finish(model, STAMP).SerializeToString()
    assert b"someone" not in data
    assert b"stack_trace" not in data
    assert model.doc_string == trace, "the original is left alone"


def test_finishing_leaves_the_shapes_of_inner_values_to_the_engine() -> None:
    model = onnx.shape_inference.infer_shapes(toy())
    assert len(model.graph.value_info) > 0
    assert len(finish(model, ModelMetadata()).graph.value_info) == 0


def test_finishing_keeps_the_opset_domains_in_use_and_no_others() -> None:
    model = toy()
    model.graph.node.append(helper.make_node("Gelu", ["t"], ["u"], domain="com.microsoft"))
    model.opset_import.extend([helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("pkg.torch", 1)])
    finished = finish(model, STAMP)
    assert [(opset.domain, opset.version) for opset in finished.opset_import] == [
        ("", 20),
        ("com.microsoft", 1),
    ]


def test_the_same_model_gives_the_same_bytes() -> None:
    assert to_bytes(finish(toy(), STAMP), "m") == to_bytes(finish(toy(), STAMP), "m")


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    size = save_onnx(toy(), path)
    assert path.stat().st_size == size
    assert read_onnx(path) == toy()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]


def test_an_invalid_model_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ModelError, match="is not valid ONNX"):
        save_onnx(toy("NoSuchOperator"), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ModelError, match="No space left"):
        save_onnx(toy(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "cause"), [(".", "is a folder"), ("none/m.onnx", "there is no folder")])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        save_onnx(toy(), tmp_path / name)
