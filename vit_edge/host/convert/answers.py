"""The output of somebody's ONNX graph that holds its answers, before a final Softmax or Sigmoid."""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto

from vit_edge.errors import ModelError
from vit_edge.host.convert.normal import image_input, normal_form
from vit_edge.host.convert.onnx_io import messages
from vit_edge.host.convert.parity import random_images
from vit_edge.host.ort import runner
from vit_edge.runtime.image.preprocess import normalize, random_pixels
from vit_edge.runtime.model.header import ACTIVATIONS, PASSING
from vit_edge.runtime.model.maps import OutputShape, boxes_among, chosen_map, gives_maps
from vit_edge.runtime.model.outputs import chosen_output, seem_probabilities, with_activation
from vit_edge.spec import OutputKind, PreprocessSpec

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_LOG = "LogSoftmax"  # softmax makes the same of its result as of the logits before it
_ENDS = ACTIVATIONS | {_LOG}
_OF_LOG = (OutputKind.SINGLE_LABEL, OutputKind.REGRESSION)
_TRIED = 4  # images
_OFF = 1e-2  # that a sum of probabilities in float16 may be
_LAST_AXES = (-1, 1)  # of (N, classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """A graph whose one output holds its answers."""

    model: onnx.ModelProto
    output: str  # what the file called them
    kind: OutputKind  # before any final activation
    stripped: str | None = None  # the operator that was taken off
    as_given: onnx.ModelProto | None = None  # with it, where one was taken off


def answers_of(
    model: onnx.ModelProto,
    name: str,
    output: str | None = None,
    said: OutputKind | None = None,
    labels: int | None = None,
) -> Answers:
    """A copy of a classifier with one output, without the Softmax, LogSoftmax or Sigmoid at its end.

    A model of maps keeps what it ends in, and all of its outputs, floating-point ones first.

    Args:
        model: any ONNX image classifier.
        name: how errors call it.
        output: the name of the output that holds the answers, where the user states it.
        said: what the numbers mean, where that is stated; a regression keeps its last operator.
        labels: how many names there are for them, where that is known.

    Raises:
        ModelError: no output that holds answers, or several that might.
    """
    values = {value.name: value for value in model.graph.output}
    shapes = [_shape(value) for value in model.graph.output]
    if gives_maps(shapes, output, said):
        return _maps_of(model, name, shapes, output)
    try:
        chosen = chosen_output(shapes, output, labels)
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.append(values[chosen])
    chain = _chain(made, chosen)
    last = None if chain is None else chain[-1]
    kind = _kind(name, said, last, _shape(values[chosen]).dims)
    given = onnx.ModelProto() if last is not None and not kind.ends_as_is else None
    if chain is not None and given is not None:
        given.CopyFrom(made)
        _bypass(made, chain)
        again = _chain(made, made.graph.output[0].name)
        if again is not None:
            raise ModelError(
                f"{name} ends in a {again[-1].op_type} and a {chain[-1].op_type} behind it, of which one "
                "is a mistake: export its logits"
            )
    if len(values) > 1 or given is not None:
        _drop_unused(made)
    return Answers(made, chosen, kind.logits, None if given is None or last is None else last.op_type, given)


def gives_boxes(model: onnx.ModelProto) -> bool:
    """Whether it has the outputs of a detection head."""
    return boxes_among([_shape(value) for value in model.graph.output]) is not None


def _maps_of(model: onnx.ModelProto, name: str, shapes: list[OutputShape], wanted: str | None) -> Answers:
    try:
        chosen = chosen_map(shapes, wanted)
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None
    kinds = {shape.name: (shape.name != chosen, not shape.is_float) for shape in shapes}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    ordered = sorted(model.graph.output, key=lambda value: kinds[value.name])
    del made.graph.output[:]
    made.graph.output.extend(ordered)
    return Answers(made, chosen, OutputKind.MAP)


def _kind(
    name: str, said: OutputKind | None, last: onnx.NodeProto | None, dims: tuple[int | None, ...] | None
) -> OutputKind:
    width = dims[1] if dims is not None and len(dims) == 2 else None
    end = None if last is None or last.op_type == _LOG else last.op_type
    try:
        kind = with_activation(said, end, width)
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None
    softmax = last is not None and last.op_type != "Sigmoid" and not kind.ends_as_is
    if softmax and width == 1 and last is not None:
        raise ModelError(
            f"{name} ends in a {last.op_type} over one number, which is always the same: export its logits"
        )
    if last is not None and last.op_type == _LOG and kind.logits not in _OF_LOG:
        raise ModelError(f"{name} ends in a LogSoftmax, which makes one class of several, not {kind.value}")
    return kind


def check_answers(
    answers: Answers, normal: onnx.ModelProto, spec: PreprocessSpec | None, told: bool, name: str
) -> None:
    """Run a graph on random images, and see whether its numbers are what they are taken for.

    Args:
        answers: from `answers_of`.
        normal: its model in normal form, of a fixed image size.
        spec: how its images are normalised, where that is known.
        told: whether somebody says what the numbers mean.
        name: how errors call it.

    Raises:
        ModelError: a Softmax over something else than the classes, or probabilities by operators that are not
            known; or onnxruntime fails.
    """
    image = image_input(normal, name)
    size = image.fixed
    assert size is not None  # noqa: S101  of a normal form
    images = random_images(*size, _TRIED)
    if spec is not None:
        images = normalize(random_pixels(_TRIED, size), spec)
    if answers.as_given is not None and answers.stripped != "Sigmoid":
        given = runner(normal_form(answers.as_given, name, size), name)(images)
        given = np.exp(given) if answers.stripped == _LOG else given
        if given.ndim != 2 or np.abs(given.sum(axis=1) - 1).max() > _OFF:
            raise ModelError(
                f"{name} ends in a {answers.stripped} that is not over its classes: export its logits"
            )
    if told or answers.kind is not OutputKind.SINGLE_LABEL or answers.stripped is not None:
        return
    values = runner(normal, name)(images)
    found = seem_probabilities(values) if values.ndim == 2 else None
    if found is not None:
        raise ModelError(
            f"{name} gives numbers that {found}, as probabilities do, but ends in no Softmax or Sigmoid: "
            f"export its logits, or say --output-kind {answers.kind.value} if that is what they are"
        )


def _shape(value: onnx.ValueInfoProto) -> OutputShape:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return OutputShape(value.name, tensor.elem_type in _FLOATS, dims if tensor.HasField("shape") else None)


def _chain(model: onnx.ModelProto, output: str) -> list[onnx.NodeProto] | None:
    """From the node that makes an output back to its activation, through what only changes the form.

    None where it ends in no activation, or in one over another axis than the classes.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    chain: list[onnx.NodeProto] = []
    while output in made_by and len(chain) < len(made_by):
        node = made_by[output]
        if node.domain not in ("", "ai.onnx"):
            return None
        chain.append(node)
        if node.op_type in _ENDS:
            axis = next((each.i for each in node.attribute if each.name == "axis"), -1)
            moved = any(each.op_type not in ("Identity", "Cast") for each in chain[:-1])
            return chain if moved or node.op_type == "Sigmoid" or axis in _LAST_AXES else None
        if node.op_type not in PASSING:
            return None
        output = node.input[0]
    return None


def _bypass(model: onnx.ModelProto, chain: list[onnx.NodeProto]) -> None:
    """Let what follows the activation read what the activation reads."""
    before = chain[-1].input[0]
    if len(chain) > 1:
        chain[-2].input[0] = before
    else:
        model.graph.output[0].name = before


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove the nodes and weights that no longer lead to an output."""
    made_by = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    needed: set[str] = set()
    kept: set[int] = set()
    waiting = [value.name for value in model.graph.output]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        index = made_by.get(name)
        if index is None or index in kept:
            continue
        kept.add(index)
        # A subgraph may read values of the graph around it.
        inside = [each for each in messages(model.graph.node[index]) if isinstance(each, onnx.NodeProto)]
        waiting += [read for node in inside for read in node.input if read and read not in needed]
    for index in reversed(range(len(model.graph.node))):
        if index not in kept:
            del model.graph.node[index]
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in needed:
            del model.graph.initializer[index]
