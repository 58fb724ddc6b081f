"""Small vision transformers with each kind of head, as folders, as ONNX files, and as others leave them."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from vit_edge.host.convert.one_file import export_model
from vit_edge.host.sources import Source, SourceOptions, resolve

SIDE = 16
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def folder_of(folder: Path, numbers: int, problem: str | None, seed: int = 0) -> Any:
    """Save a classifier with that many numbers per image; returns transformers' model."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        image_size=SIDE,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=numbers,
        problem_type=problem,
        id2label={index: f"thing {index}" for index in range(numbers)},
        label2id={f"thing {index}": index for index in range(numbers)},
        initializer_range=0.2,
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return model


def source_of(folder: Path, numbers: int, problem: str | None = None, **options: Any) -> Source:
    """The same, resolved."""
    folder_of(folder, numbers, problem)
    return resolve(str(folder), SourceOptions(**options))


@functools.cache
def _exported(numbers: int) -> bytes:
    """Torch takes seconds for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_model(source_of(Path(folder) / "source", numbers, "regression"), path)
        return path.read_bytes()


def foreign(path: Path, numbers: int, activation: str | None, extra: tuple[str, ...] = ()) -> Path:
    """An ONNX file that ends in an activation; further outputs, which hold the class token, come first.

    It keeps labels and preprocessing in its metadata, but nothing on what its numbers mean.
    """
    model = onnx.ModelProto.FromString(_exported(numbers))
    for entry in list(model.metadata_props):
        if entry.key == "vit_edge.output":
            model.metadata_props.remove(entry)
    graph = model.graph
    output = graph.output[0]
    head = next(node for node in graph.node if output.name in node.output)
    if activation is not None:
        head.output[0] = "raw"
        graph.node.append(helper.make_node(activation, ["raw"], [output.name]))
    for name in extra:
        graph.node.append(helper.make_node("Identity", [head.input[0]], [name]))
        kept = graph.output.pop()
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 32]))
        graph.output.append(kept)
    onnx.save(model, path)
    return path


def renamed_output(path: Path, old: str, new: str) -> Path:
    """The file with another name for one output."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
    for value in model.graph.output:
        value.name = new if value.name == old else value.name
    onnx.save(model, path)
    return path


# Operators behind the logits: (operator, inputs, attributes), each reading what the one before made.
Step = tuple[str, tuple[Any, ...], dict[str, Any]]
_ONE, _AXIS, _ROWS = np.float32(1), np.array([1], np.int64), np.array([0, -1], np.int64)
HALF, WHOLE = {"to": TensorProto.FLOAT16}, {"to": TensorProto.FLOAT}
ENDS: dict[str, tuple[Step, ...]] = {
    "softmax in float16": (("Softmax", (), {}), ("Cast", (), HALF), ("Cast", (), WHOLE)),
    "softmax, reshaped": (("Softmax", (), {}), ("Reshape", (_ROWS,), {})),
    "softmax of a column": (
        ("Unsqueeze", (np.array([2], np.int64),), {}),
        ("Softmax", (), {"axis": 1}),
        ("Squeeze", (np.array([2], np.int64),), {}),
    ),
    "softmax of a row": (
        ("Unsqueeze", (np.array([1], np.int64),), {}),
        ("Softmax", (), {"axis": 1}),
        ("Squeeze", (np.array([1], np.int64),), {}),
    ),
    "log-softmax": (("LogSoftmax", (), {}),),
    "sigmoid in float16": (("Sigmoid", (), {}), ("Cast", (), HALF), ("Cast", (), WHOLE)),
    "softmax twice": (("Softmax", (), {}), ("Softmax", (), {})),
    "softmax in parts": (("Exp", (), {}), ("LpNormalization", (), {"p": 1, "axis": 1})),
    "softmax in percent": (("Softmax", (), {}), ("Mul", (np.float32(100),), {})),
    "softmax, clipped": (("Softmax", (), {}), ("Clip", (np.float32(1e-7), np.float32(1)), {})),
    "sigmoid in parts": (("Neg", (), {}), ("Exp", (), {}), ("Add", (_ONE,), {}), ("Reciprocal", (), {})),
    "hard sigmoid": (("HardSigmoid", (), {}),),
    "tanh": (("Tanh", (), {}),),
}


def ending(path: Path, end: str, numbers: int = 3) -> Path:
    """An ONNX file of logits with these operators behind them."""
    model = onnx.load(foreign(path, numbers, None))
    graph = model.graph
    output = graph.output[0].name
    head = next(node for node in graph.node if output in node.output)
    current = head.output[0] = "raw"
    for place, (operator, operands, attributes) in enumerate(ENDS[end]):
        names = [f"operand_{place}_{index}" for index in range(len(operands))]
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name)
            for value, name in zip(operands, names, strict=True)
        )
        made = output if place == len(ENDS[end]) - 1 else f"step_{place}"
        graph.node.append(helper.make_node(operator, [current, *names], [made], **attributes))
        current = made
    onnx.save(model, path)
    return path
