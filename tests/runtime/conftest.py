"""A toy classifier as a real ONNX file, each class weighing the means of the colours, and its images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge.runtime.evaluate.dataset import ImageSet, read_images
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.metadata import LABELS_KEY, PREPROCESS_KEY
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

SPEC = PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.NEAREST, (0.5,) * 3, (0.5,) * 3)
COLOURS = ("red", "green", "blue")

ToyModel = Callable[..., ModelFile]


@pytest.fixture
def toy_model(tmp_path: Path) -> ToyModel:
    """Writes a model file and reads it back: logits are `weights` times the channels' means."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to write models")
    from onnx import TensorProto, helper, numpy_helper

    def write(
        name: str,
        weights: Sequence[Sequence[float]] = np.eye(3).tolist(),
        labels: Sequence[str] | None = COLOURS,
        preprocess: PreprocessSpec | None = SPEC,
        side: int | str = 8,
    ) -> ModelFile:
        table = np.asarray(weights, np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["means"]),
                helper.make_node("Gemm", ["means", "weights"], ["logits"], transB=1),
            ],
            "toy",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(table)])],
            [numpy_helper.from_array(table, "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        metadata = {} if labels is None else {LABELS_KEY: json.dumps(labels)}
        if preprocess is not None:
            metadata[PREPROCESS_KEY] = json.dumps(preprocess.to_json())
        helper.set_model_props(model, metadata)
        path = tmp_path / name
        onnx.save(model, path)
        return read_model(path)

    return write


def mixed_colours(folder: Path, each: int) -> Path:
    """Folders red, green and blue of plain images in which that channel is the brightest."""
    random = np.random.default_rng(6)
    for label, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            colour = random.integers(0, 150, 3)
            colour[label] = 160 + random.integers(0, 90)
            pixels = np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03}.png")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A hundred images of each class."""
    return mixed_colours(tmp_path / "many", 100)


@pytest.fixture
def many_images(many: Path) -> ImageSet:
    """Those, read."""
    return read_images(many, COLOURS)
