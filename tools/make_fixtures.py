"""Makes the tiny ONNX files in tests/data, so that the device tests need no onnx package.

Usage: .venv/bin/python tools/make_fixtures.py [FOLDER]     (default: tests/data)
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES, PATCH = 8, 3, 4
LABELS = ["ant", "bee", "cat"]
PREPROCESS = {
    "height": SIDE,
    "width": SIDE,
    "resize_mode": "short_side",
    "resize": [10, 10],
    "interpolation": "bicubic",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.25, 0.5, 0.2],
}
METADATA = {"vit_edge.labels": json.dumps(LABELS), "vit_edge.preprocess": json.dumps(PREPROCESS)}


def weights() -> dict[str, np.ndarray]:
    """Two linear layers' worth of fixed random numbers."""
    random = np.random.default_rng(7)
    return {
        "patch": random.normal(0, 0.3, (6, 3, PATCH, PATCH)).astype(np.float32),
        "head": random.normal(0, 1, (CLASSES, 6)).astype(np.float32),
        "bias": random.normal(0, 1, CLASSES).astype(np.float32),
    }


def body() -> list[onnx.NodeProto]:
    """pixel_values -> logits: patch embedding, ReLU, mean over patches, linear head."""
    return [
        helper.make_node("Conv", ["pixel_values", "patch"], ["tokens"], strides=[PATCH, PATCH]),
        helper.make_node("Relu", ["tokens"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["logits"], transB=1),
    ]


def normalising_head() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """uint8 NHWC pixels -> pixel_values."""
    mean = np.array(PREPROCESS["mean"], np.float32).reshape(1, 3, 1, 1)
    std = np.array(PREPROCESS["std"], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["as_float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shift"], ["pixel_values"]),
    ]
    return nodes, {"scale": 1 / (255 * std), "shift": mean / std}


def value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def float_input(batch: int | str) -> onnx.ValueInfoProto:
    return value("pixel_values", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])


def model(
    image: onnx.ValueInfoProto,
    batch: int | str = "batch",
    nodes: list[onnx.NodeProto] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] = METADATA,
) -> onnx.ModelProto:
    """A complete model around `nodes`, opset 20, IR 10."""
    tensors = constants if constants is not None else weights()
    graph = helper.make_graph(
        nodes if nodes is not None else body(),
        "tiny",
        [image],
        [value("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    result = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="vit-edge fixtures")
    helper.set_model_props(result, dict(metadata))
    return result


def pixels_model() -> onnx.ModelProto:
    head, constants = normalising_head()
    image = value("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    return model(image, nodes=head + body(), constants=weights() | constants)


def external_model() -> onnx.ModelProto:
    """Its head lies in a file beside it."""
    result = model(float_input("batch"))
    tensor = result.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="head.bin")
    return result


def foreign_model(in_subgraph: bool) -> onnx.ModelProto:
    """Uses an operator of a domain that nobody ships, at the top or in a branch of an If."""
    foreign = helper.make_node("Mystery", ["logits_0"], ["logits"], domain="com.example")
    nodes = body()
    nodes[-1].output[0] = "logits_0"
    if not in_subgraph:
        return model(float_input("batch"), nodes=[*nodes, foreign])
    output = value("logits", TensorProto.FLOAT, ["batch", CLASSES])
    branch = helper.make_graph([foreign], "branch", [], [output])
    choose = helper.make_node("If", ["condition"], ["logits"], then_branch=branch, else_branch=branch)
    return model(
        float_input("batch"), nodes=[*nodes, choose], constants={**weights(), "condition": np.array(True)}
    )


def function_model() -> onnx.ModelProto:
    """Uses an operator that the file itself defines, which is no foreign one."""
    nodes = body()
    nodes[1] = helper.make_node("Clamp", ["tokens"], ["active"], domain="com.example")
    result = model(float_input("batch"), nodes=nodes)
    inner = [helper.make_node("Relu", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 20)]
    result.functions.append(helper.make_function("com.example", "Clamp", ["x"], ["y"], inner, opset))
    return result


def unrunnable_model() -> onnx.ModelProto:
    """Passes every check of the header, but onnxruntime knows no such operator."""
    nodes = body()
    nodes[1] = helper.make_node("NoSuchOperator", ["tokens"], ["active"])
    return model(float_input("batch"), nodes=nodes)


def embedder_model(
    batch: int | str = "batch",
    shapes: Mapping[str, list[int | str]] | None = None,
    metadata: Mapping[str, str] = METADATA,
) -> onnx.ModelProto:
    """pixel_values -> embeddings: the patches of `body`, their mean, and their maximum for a class token."""
    dim, side = len(weights()["patch"]), SIDE // PATCH
    stated: Mapping[str, list[int | str]] = shapes or {
        "cls_embedding": [dim],
        "pooled_embedding": [dim],
        "patch_features": [side, side, dim],
    }
    nodes = [
        *body()[:2],
        helper.make_node("GlobalMaxPool", ["active"], ["largest"]),
        helper.make_node("Flatten", ["largest"], ["cls_embedding"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["pooled_embedding"]),
        helper.make_node("Transpose", ["active"], ["patch_features"], perm=[0, 2, 3, 1]),
    ]
    result = model(
        float_input(batch), nodes=nodes, constants={"patch": weights()["patch"]}, metadata=metadata
    )
    del result.graph.output[:]
    result.graph.output.extend(
        value(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in stated.items()
    )
    return result


def renamed(image: str, output: str) -> onnx.ModelProto:
    result = model(float_input("batch"))
    result.graph.input[0].name = result.graph.node[0].input[0] = image
    result.graph.output[0].name = result.graph.node[-1].output[0] = output
    return result


def channels_last_model() -> onnx.ModelProto:
    """The same model as a tool of another maker lays it out, and without metadata."""
    nodes = [helper.make_node("Transpose", ["x"], ["pixel_values"], perm=[0, 3, 1, 2]), *body()]
    result = model(value("x", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3]), nodes=nodes, metadata={})
    result.graph.output[0].name = result.graph.node[-1].output[0] = "Identity:0"
    return result


def uint8_channels_first_model() -> onnx.ModelProto:
    """Takes the pixels themselves, channels first."""
    head, constants = normalising_head()
    head[1:2] = []
    head[0].input[0], head[1].input[0] = "image", "as_float"
    image = value("image", TensorProto.UINT8, ["batch", 3, SIDE, SIDE])
    return model(image, nodes=head + body(), constants=weights() | constants)


def two_outputs_model(shape: list[int | str], labelled: bool = True) -> onnx.ModelProto:
    """Gives the patches' features or their mean, too; no output is named logits."""
    result = renamed("image", "scores")
    made = "active" if len(shape) == 3 else "flat"
    result.graph.output.insert(0, value(made, TensorProto.FLOAT, ["batch", *shape]))
    if not labelled:  # whose number would tell the two apart
        kept = [entry for entry in result.metadata_props if entry.key != "vit_edge.labels"]
        del result.metadata_props[:]
        result.metadata_props.extend(kept)
    return result


def two_inputs_model() -> onnx.ModelProto:
    """Wants a second image."""
    result = model(float_input("batch"))
    result.graph.input.append(value("other", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]))
    return result


def fixtures() -> dict[str, onnx.ModelProto]:
    """File name -> model."""
    image = float_input("batch")
    labels = dict(METADATA)
    return {
        "dynamic.onnx": model(image),
        "fixed4.onnx": model(float_input(4), batch=4),
        "pixels.onnx": pixels_model(),
        "function.onnx": function_model(),
        "session_options.onnx": model(
            image, metadata=labels | {"vit_edge.session_options": '{"session.qdqisint8allowed": "1"}'}
        ),
        "plain.onnx": model(image, metadata={}),
        "no_labels.onnx": model(image, metadata={"vit_edge.preprocess": METADATA["vit_edge.preprocess"]}),
        "embedder.onnx": embedder_model(),
        "embedder_fixed4.onnx": embedder_model(batch=4),
        "embedder_without_cls.onnx": embedder_model(
            shapes={"pooled_embedding": [6], "patch_features": [2, 2, 6]}
        ),
        "embedder_plain.onnx": embedder_model(metadata={}),
        "bad_embedder_open.onnx": embedder_model(
            shapes={"pooled_embedding": [6], "patch_features": ["rows", 2, 6]}
        ),
        "bad_embedder_dim.onnx": embedder_model(
            shapes={"pooled_embedding": [5], "patch_features": [2, 2, 6]}
        ),
        "bad_embedder_rank.onnx": embedder_model(shapes={"pooled_embedding": [6], "patch_features": [4, 6]}),
        "bad_embedder_outputs.onnx": embedder_model(shapes={"pooled_embedding": [6]}),
        "bad_external.onnx": external_model(),
        "bad_foreign.onnx": foreign_model(in_subgraph=False),
        "bad_foreign_subgraph.onnx": foreign_model(in_subgraph=True),
        "bad_unrunnable.onnx": unrunnable_model(),
        "foreign_names.onnx": renamed("image", "scores"),
        "foreign_channels_last.onnx": channels_last_model(),
        "foreign_uint8_channels_first.onnx": uint8_channels_first_model(),
        "foreign_two_outputs.onnx": two_outputs_model([6, 2, 2]),
        "bad_two_outputs.onnx": two_outputs_model([6], labelled=False),
        "bad_two_inputs.onnx": two_inputs_model(),
        "bad_input_type.onnx": model(value("pixel_values", TensorProto.DOUBLE, ["batch", 3, SIDE, SIDE])),
        "bad_rank.onnx": model(value("pixel_values", TensorProto.FLOAT, [3, SIDE, SIDE])),
        "bad_channels.onnx": model(value("pixel_values", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])),
        "bad_size.onnx": model(value("pixel_values", TensorProto.FLOAT, ["batch", 3, 100_000, SIDE])),
        "bad_label_count.onnx": model(image, metadata=labels | {"vit_edge.labels": '["ant", "bee"]'}),
        "bad_labels.onnx": model(image, metadata=labels | {"vit_edge.labels": '["ant", 2, "cat"]'}),
        "bad_preprocess.onnx": model(image, metadata=labels | {"vit_edge.preprocess": '{"height": 8}'}),
        "bad_session_options.onnx": model(
            image, metadata=labels | {"vit_edge.session_options": '{"session.use_env_allocators": "1"}'}
        ),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, proto in fixtures().items():
        (folder / name).write_bytes(proto.SerializeToString(deterministic=True))


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent / "tests" / "data"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
