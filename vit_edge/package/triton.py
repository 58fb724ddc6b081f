"""A model repository for Triton: a folder for each model file, with numbered versions in it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from vit_edge.package.contents import Contents, PackedModel
from vit_edge.spec import LOGITS, InputForm

VERSION = 1
MAX_BATCH = 8
MAX_DELAY_US = 1000  # that a request waits for others

_FLOAT_BYTES = 4


def repository(contents: Contents) -> dict[str, bytes]:
    """`models/` with a folder for each model file, and `model.json`, which says what each is called there."""
    made: dict[str, bytes] = {}
    about = contents.about()
    classes = len(contents.files[contents.cases[0].output_file]) // _FLOAT_BYTES
    labels = _labels(contents, classes)
    for packed, entry in zip(contents.models, about["files"], strict=True):
        name = served_name(contents.source, packed)
        folder = f"models/{name}"
        made[f"{folder}/{VERSION}/model.onnx"] = packed.model.data
        outputs = packed.outputs if contents.gives else {LOGITS: (classes,)}
        made[f"{folder}/config.pbtxt"] = config(packed, name, outputs, labels).encode()
        if labels is not None:
            made[f"{folder}/labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
        entry |= {"file": f"{folder}/{VERSION}/model.onnx", "served_as": name, "packed_from": packed.path}
    golden = {name: data for name, data in contents.files.items() if name.startswith("golden/")}
    return made | golden | {"model.json": _json(about)}


def served_name(source: str, packed: PackedModel) -> str:
    """What a model is called on the server: the checkpoint's name, and float or int8."""
    plain = re.sub(r"[^a-z0-9]+", "_", source.lower()).strip("_")
    return f"{plain or 'model'}_{packed.name}"


def config(
    packed: PackedModel, name: str, outputs: Mapping[str, tuple[int, ...]], labels: list[str] | None
) -> str:
    """`config.pbtxt`, a ModelConfig as text.

    Args:
        packed: the model.
        name: what it is called on the server.
        outputs: the shape of each for one image.
        labels: one per class, of a classifier that has them.

    Of onnxruntime's settings its backend takes the number of threads; entries of the session configuration it
    does not take.
    """
    dynamic = packed.model.batch is None
    shape = packed.input_shape[1:] if dynamic else packed.input_shape
    kind = "TYPE_UINT8" if packed.model.form is InputForm.PIXELS else "TYPE_FP32"
    labelled = ' label_filename: "labels.txt"' if labels is not None else ""
    given = ", ".join(
        f"{{ name: {json.dumps(output)} data_type: TYPE_FP32 "
        f"dims: {list(shape if dynamic else (1, *shape))}{labelled} }}"
        for output, shape in outputs.items()
    )
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_US} }}\n" if dynamic else ""
    return (
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        'default_model_filename: "model.onnx"\n'
        f"max_batch_size: {MAX_BATCH if dynamic else 0}\n"
        f'input [ {{ name: "{packed.model.form.value}" data_type: {kind} dims: {list(shape)} }} ]\n'
        f"output [ {given} ]\n"
        f"version_policy {{ latest {{ num_versions: 1 }} }}\n"
        f"{batching}"
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }\n'
    )


def _labels(contents: Contents, classes: int) -> list[str] | None:
    """One on each line of labels.txt, where each answer has one."""
    if contents.gives or contents.labels is None or len(contents.labels) != classes:
        return None
    return [" ".join(label.split()) for label in contents.labels]


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
