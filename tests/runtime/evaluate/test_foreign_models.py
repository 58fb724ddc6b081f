"""`compare` and `bench` on files of other makers: any names and layouts, preprocessing stated."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.conftest import SPEC
from vit_edge.cli import main
from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.evaluate.stated import at_size, with_stated
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode
from vit_edge.stated import StatedPreprocess

ToyModel = Callable[..., ModelFile]
Output = pytest.CaptureFixture[str]
FLAGS = [
    "--mean",
    ".5",
    ".5",
    ".5",
    "--std",
    ".5",
    ".5",
    ".5",
    "--interpolation",
    "nearest",
    "--resize-mode",
    "exact",
]
STATED = StatedPreprocess(
    mean=SPEC.mean, std=SPEC.std, interpolation=Interpolation.NEAREST, resize_mode=ResizeMode.EXACT
)


def convolutional(path: Path, layout: str, side: int | str = 8, weights: Any = None) -> Path:
    """A CNN that answers as the toy model does, from normalised numbers or, as uint8, from pixels."""
    table = np.eye(3, dtype=np.float32) if weights is None else np.asarray(weights, np.float32)
    last, raw = "last" in layout, "uint8" in layout
    nodes = []
    name = "serving_default_images:0"
    if raw:
        nodes.append(helper.make_node("Cast", [name], ["numbers"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["numbers", "scale"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "minus"], ["normal"]))
    current = "normal" if raw else name
    if last:
        nodes.append(helper.make_node("Transpose", [current], ["first"], perm=[0, 3, 1, 2]))
        current = "first"
    nodes += [
        helper.make_node("Conv", [current, "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["convolved"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["StatefulPartitionedCall:0"]),
    ]
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[:, :, 1, 1] = table
    shape = ["n", side, side, 3] if last else ["n", 3, side, side]
    kind = TensorProto.UINT8 if raw else TensorProto.FLOAT
    constants = {
        "kernel": kernel,
        "scale": np.asarray(2 / 255, np.float32),
        "minus": np.asarray(-1, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("StatefulPartitionedCall:0", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


LAYOUTS = ("first", "last", "uint8 first", "uint8 last")


@pytest.mark.parametrize(("first", "second"), [*itertools.pairwise([*LAYOUTS, LAYOUTS[0]])])
def test_two_files_of_other_makers_are_compared_whatever_their_layouts(
    first: str, second: str, many: Path, tmp_path: Path
) -> None:
    models = [str(convolutional(tmp_path / f"{i}.onnx", each)) for i, each in enumerate((first, second))]
    report = tmp_path / "r.json"
    # The folders are named by index, as neither file carries labels.
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    words = ["compare", *models, "--data", str(many), "--max-drop", "5", "--json", str(report), *FLAGS]
    assert main(words) == 0
    figures = json.loads(report.read_text())
    assert (figures["top1_float"], figures["agreement"]) == (100.0, 100.0)


def test_a_foreign_file_beside_ours_takes_what_is_stated(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    ours = str(toy_model("ours.onnx").path)
    theirs = str(convolutional(tmp_path / "theirs.onnx", "last"))
    assert main(["compare", ours, theirs, "--data", str(many), "--max-drop", "5", *FLAGS]) == 0
    assert main(["compare", ours, theirs, "--data", str(many), "--max-drop", "5"]) == 0  # that of ours
    assert main(["compare", ours, ours, "--data", str(many), *FLAGS]) == 2
    assert "both carry their preprocessing: leave --image-size" in capsys.readouterr().err


def test_a_silent_pair_says_which_options_are_missing(many: Path, tmp_path: Path, capsys: Output) -> None:
    models = [str(convolutional(tmp_path / f"{i}.onnx", "first")) for i in range(2)]
    assert main(["compare", *models, "--data", str(many), "--mean", ".5", ".5", ".5"]) == 2
    error = capsys.readouterr().err
    assert "pass --std, --interpolation, --crop-pct or --resize-mode" in error


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_open_size_is_stated_for_comparing_and_timing(layout: str, tmp_path: Path, many: Path) -> None:
    path = str(convolutional(tmp_path / "open.onnx", layout, side="side"))
    assert main(["bench", path, "--image-size", "8", "--rounds", "1", "--seconds", "0"]) == 0
    assert main(["bench", path, "--rounds", "1"]) == 2
    words = ["compare", path, path, "--self", "--data", str(many), "--max-drop", "50", *FLAGS]
    assert main(words) == 2
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    assert main([*words, "--image-size", "8"]) == 0


def test_another_size_than_the_files_is_refused(tmp_path: Path) -> None:
    model = read_model(convolutional(tmp_path / "m.onnx", "first"))
    assert at_size(model, None) is model
    assert at_size(model, (8, 8)) is model
    with pytest.raises(ModelError, match=r"takes \(8, 8\) pixels, not \(16, 16\): leave --image-size out"):
        at_size(model, (16, 16))


def test_what_is_stated_is_for_the_silent_model_alone(toy_model: ToyModel, tmp_path: Path) -> None:
    ours, theirs = toy_model("ours.onnx"), read_model(convolutional(tmp_path / "m.onnx", "first"))
    stated = StatedPreprocess(mean=(0.1,) * 3, std=(0.2,) * 3, interpolation=Interpolation.BOX, crop_pct=0.5)
    first, second = with_stated((ours, theirs), stated)
    assert first.preprocess == SPEC
    assert second.preprocess == PreprocessSpec(
        8, 8, ResizeMode.SHORT_SIDE, (16, 16), Interpolation.BOX, (0.1,) * 3, (0.2,) * 3
    )
    with pytest.raises(UsageError, match="both carry"):
        with_stated((ours, ours), STATED)
    assert with_stated((theirs, theirs), StatedPreprocess()) == (theirs, theirs)


# --- each side by itself


def test_what_holds_for_the_second_model_alone_is_stated_for_it_alone(many: Path, tmp_path: Path) -> None:
    """The second wants its pixels halved, so that with the first one's statistics it sees other images."""
    first = str(convolutional(tmp_path / "first.onnx", "first"))
    second = str(convolutional(tmp_path / "second.onnx", "last", weights=np.eye(3) * 2))
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    words = ["compare", first, second, "--data", str(many), "--max-drop", "5", *FLAGS]
    assert main([*words, "--json", str(tmp_path / "plain.json")]) == 0
    assert main([*words, "--quant-std", "1", "1", "1", "--json", str(tmp_path / "alone.json")]) == 0
    plain, alone = (
        json.loads((tmp_path / f"{each}.json").read_text())["logit_sqnr_db"] for each in ("plain", "alone")
    )
    assert plain == pytest.approx(0.0, abs=0.1)  # twice the logits
    assert alone is None or alone > 100


def test_each_side_may_name_its_own_output(many: Path, tmp_path: Path, capsys: Output) -> None:
    first = convolutional(tmp_path / "first.onnx", "first")
    second = convolutional(tmp_path / "second.onnx", "last")
    model = onnx.load(second)
    model.graph.output.append(helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["n", 3]))
    model.graph.node.append(helper.make_node("Add", ["StatefulPartitionedCall:0"] * 2, ["doubled"]))
    onnx.save(model, second)
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    words = ["compare", str(first), str(second), "--data", str(many), "--max-drop", "5", *FLAGS]
    assert main(words) == 2
    assert "name one with --output" in capsys.readouterr().err
    assert main([*words, "--quant-output", "doubled"]) == 0


def test_what_is_left_out_for_the_second_is_as_for_the_first(toy_model: ToyModel, tmp_path: Path) -> None:
    ours, theirs = toy_model("ours.onnx"), read_model(convolutional(tmp_path / "m.onnx", "first"))
    alone = StatedPreprocess(mean=(0.1,) * 3)
    first, second = with_stated((ours, theirs), StatedPreprocess(), alone)
    assert first is ours
    assert second.preprocess == dataclasses.replace(SPEC, mean=(0.1,) * 3)
    both = with_stated((theirs, theirs), STATED, alone)
    assert both[0].preprocess is not None
    assert both[1].preprocess == dataclasses.replace(both[0].preprocess, mean=(0.1,) * 3)
    with pytest.raises(UsageError, match="carries its preprocessing: leave --quant-mean"):
        with_stated((theirs, ours), STATED, alone)
    with pytest.raises(ModelError, match="pass --std, --interpolation"):
        with_stated((theirs, theirs), StatedPreprocess(), alone)


def test_a_model_that_says_nothing_of_its_images_is_noted(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    ours = str(toy_model("ours.onnx").path)
    theirs = str(convolutional(tmp_path / "theirs.onnx", "last"))
    assert main(["compare", ours, theirs, "--data", str(many), "--max-drop", "5"]) == 0
    assert f"{theirs} does not say how its images are made: as {ours} says" in capsys.readouterr().out


def halved(path: Path) -> Path:
    """The file with float16 weights, input and output, as converters write it."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path.with_name("half.onnx"))
    return path.with_name("half.onnx")


@pytest.mark.parametrize("layout", ["first", "last"])
def test_float16_at_either_end_is_compared_and_timed(layout: str, many: Path, tmp_path: Path) -> None:
    plain = convolutional(tmp_path / "m.onnx", layout)
    half = str(halved(plain))
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    words = ["--data", str(many), "--max-drop", "5", *FLAGS, "--json", str(tmp_path / "r.json")]
    assert main(["compare", str(plain), half, *words]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["logit_sqnr_db"] > 50  # 11 bits
    assert main(["bench", str(plain), half, "--rounds", "1", "--seconds", "0"]) == 0


def test_probabilities_that_nobody_explains_end_a_comparison_at_once(
    many: Path, tmp_path: Path, capsys: Output
) -> None:
    path = convolutional(tmp_path / "m.onnx", "first")
    model = onnx.load(path)
    output = model.graph.output[0].name
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(helper.make_node("Exp", ["raw"], ["powers"]))
    model.graph.node.append(helper.make_node("LpNormalization", ["powers"], [output], p=1, axis=1))
    onnx.save(model, tmp_path / "p.onnx")
    for index, name in enumerate(("red", "green", "blue")):
        (many / name).rename(many / str(index))
    words = ["compare", str(path), str(tmp_path / "p.onnx"), "--data", str(many), "--max-drop", "5", *FLAGS]
    assert main(words) == 2
    assert "add up to 1 for every image, as probabilities do" in capsys.readouterr().err
    assert main([*words, "--quant-output-kind", "single_label_probabilities"]) == 0
    assert "agreement      100.00 %" in capsys.readouterr().out
