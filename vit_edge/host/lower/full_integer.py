"""Lowering with every operator in integers: QuantizeLinear and DequantizeLinear around each of them.

The float graph is lowered first, then every float tensor makes the round trip through the activation type:
the operators between two such round trips are what an NPU's compiler turns into integer ones. Operators that
only move values (Reshape, Transpose, ...) give what they take in the same scale. Weights are int8, one scale
per output column, as in any other INT8 file.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass, ShapeInferencePass

from vit_edge.arrays import Array
from vit_edge.errors import ModelError
from vit_edge.host.affine import Affine, Integer
from vit_edge.host.initializers import stored
from vit_edge.host.lower.linear import bias_steps, with_room
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.narrow import Range, part_narrow
from vit_edge.host.lower.versions import to_versions
from vit_edge.host.plan import FullIntegerPlan, LinearPlan, QuantPlan
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.spec import WRITTEN, ActivationType, GraphStyle

MOVES = frozenset({"Reshape", "Transpose", "Split", "Gather", "Slice"})
_ROUND_TRIP = frozenset({"QuantizeLinear", "DequantizeLinear"})
OPSET_16_BIT = 21  # QuantizeLinear of 16 bits; the portable files stay at an older one


def float_settings(settings: LowerSettings) -> LowerSettings:
    """The form of the graph whose tensors are observed, then quantized: names are equal only in one form."""
    form = dataclasses.replace(
        settings.form,
        batch=1,
        style=GraphStyle.COMPILER,
        activations=ActivationType.UINT8,
        versions=WRITTEN,
    )
    return dataclasses.replace(settings, form=form)


def lower_full_integer(
    canonical: Canonical, settings: LowerSettings, plan: FullIntegerPlan
) -> onnx.ModelProto:
    """The model with every operator in integers, batch 1.

    Args:
        canonical: folded as the plan expects it.
        settings: input form, normalisation, and the type of all activations.
        plan: weights of every linear layer, and the range of every tensor.

    Raises:
        ModelError: a tensor has no range.
    """
    proto = lower(canonical, float_settings(settings), QuantPlan(embed=plan.embed), check=False)
    model, activations = ir.from_proto(proto), settings.form.activations
    ShapeInferencePass()(model)
    _Quantizer(model.graph, plan, activations, canonical.name).run()
    RemoveUnusedNodesPass()(model)
    if np.iinfo(activations.value).bits == 16:
        model.graph.opset_imports[""] = OPSET_16_BIT
    to_versions(model, settings.form.versions, canonical.name)
    ShapeInferencePass()(model)
    CheckerPass(full_check=True)(model)
    return ir.to_proto(model)


class _Quantizer:
    def __init__(
        self, graph: ir.Graph, plan: FullIntegerPlan, activations: ActivationType, name: str
    ) -> None:
        self.graph, self.plan, self.name = graph, plan, name
        self.dtype: Integer = np.dtype(activations.value).type
        self.ranges: Mapping[str, Range] = plan.ranges
        self.read_in: Mapping[ir.Node, tuple[Affine, ...]] = {}  # of the inputs of narrow products
        self.constants = 0
        self.pixels: ir.Value | None = None  # as real numbers, 0 to 1

    def run(self) -> None:
        self.lift_pixels()
        parted = part_narrow(self.graph, self.plan)
        self.read_in, self.ranges = parted.read_in, {**self.plan.ranges, **parted.ranges}
        nodes = [node for node in self.graph if node.op_type not in _ROUND_TRIP]
        ranges = {value: self.range_of(value) for node in nodes for value in _floats(node)}
        if self.pixels is not None:
            ranges[self.pixels] = self.range_of(self.pixels)
        for node in nodes:
            if node.op_type == "Gemm":
                layer = self.plan.linears.get(node.name or "") or self.embedding(node)
                self.write_weight(node, layer, ranges)
            else:
                self.write_constants(node, ranges)
        for value, reach in ranges.items():
            self.round_trip(value, reach)

    def lift_pixels(self) -> None:
        """Dequantize the pixels before they become patches: NPUs move activations, not bare integers."""
        given = self.graph.inputs[0]
        old = next(
            node
            for node in self.graph
            if node.op_type == "DequantizeLinear" and node.inputs[0] in _moved_from(given)
        )
        flat, scale, zero = old.inputs
        lifted = ir.node("DequantizeLinear", [given, scale, zero], name="pixels.real")
        self.pixels = lifted.outputs[0]
        self.pixels.name, self.pixels.dtype, self.pixels.shape = lifted.name, ir.DataType.FLOAT, given.shape
        readers = list(given.uses())
        for value in _moved_from(given):
            value.dtype = ir.DataType.FLOAT
        old.outputs[0].replace_all_uses_with(_required(flat))
        self.graph.remove(old, safe=True)
        for use in readers:
            if use.node is not lifted:
                use.node.replace_input_with(use.idx, self.pixels)
        self.graph.insert_before(next(iter(self.graph)), lifted)

    def range_of(self, value: ir.Value) -> Range:
        """Of a value that a node makes."""
        if value is self.pixels:
            return 0.0, 1.0
        readers = [use.node for use in value.uses()]
        if len(readers) == 1 and readers[0].op_type == "Concat":
            return self.range_of(readers[0].outputs[0])
        node = value.producer()
        moved = node.inputs[0] if node is not None and node.op_type in MOVES else None
        if moved is not None and moved.producer() is not None:
            return self.range_of(moved)
        found = self.ranges.get(str(value.name))
        if found is None:
            raise ModelError(f"{self.name}: {value.name} was not observed, so it has no range")
        return found

    def affine(self, reach: Range) -> Affine:
        """The codes of a range, zero being one of them."""
        return Affine.of(*reach, self.dtype, as_stored=False)

    def parameters(self, affine: Affine, name: str) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point as constants."""
        scale, zero = np.asarray(affine.scale, np.float32), np.asarray(affine.zero_point, affine.dtype)
        return self.constant(scale, name), self.constant(zero, name)

    def round_trip(self, value: ir.Value, reach: Range) -> None:
        """Put QuantizeLinear and DequantizeLinear between a value and all that reads it."""
        readers = list(value.uses())
        back = self.coded(value, self.affine(reach), str(value.name))
        narrow: dict[Affine, ir.Value] = {}
        for use in readers:
            codes = self.read_in.get(use.node, ())[use.idx : use.idx + 1]
            if codes and codes[0] not in narrow:
                name = f"{value.name}.narrow{len(narrow) or ''}"
                narrow[codes[0]] = self.coded(back, codes[0], name)
            use.node.replace_input_with(use.idx, narrow[codes[0]] if codes else back)
        for index, output in enumerate(self.graph.outputs):
            if output is value:
                back.name, value.name = value.name, f"{value.name}.float"
                back.dtype, back.shape = ir.DataType.FLOAT, value.shape
                self.graph.outputs[index] = back

    def coded(self, value: ir.Value, affine: Affine, name: str) -> ir.Value:
        """A value after the way to codes and back, made right behind it."""
        producer = value.producer()
        if producer is None:
            raise ModelError(f"{self.name}: {value.name} is made by no node")
        scale, zero = self.parameters(affine, f"{name}.range")
        stored = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}.quantized")
        back = ir.node("DequantizeLinear", [stored.outputs[0], scale, zero], name=f"{name}.dequantized")
        stored.outputs[0].name, back.outputs[0].name = stored.name, back.name
        self.graph.insert_after(producer, [stored, back])
        return back.outputs[0]

    def embedding(self, node: ir.Node) -> LinearPlan:
        """The patch embedding, whose weight and bias are in the graph already."""
        (weight, scale), (steps, step) = (self.stored(node, index) for index in (1, 2))
        return LinearPlan(Affine(1.0), weight, scale, steps.astype(np.float32) * step)

    def stored(self, node: ir.Node, index: int) -> tuple[Array, Array]:
        """The integers and the scale of an input that is dequantized."""
        made = _required(node.inputs[index]).producer()
        if made is None or made.op_type != "DequantizeLinear":
            raise ModelError(f"{self.name}: {node.name} was not quantized")
        integers, scale = (np.asarray(_required(part).const_value) for part in made.inputs[:2])
        return integers, scale

    def write_weight(self, node: ir.Node, layer: LinearPlan, ranges: dict[ir.Value, Range]) -> None:
        """The int8 weight of a linear layer, and its int32 bias in the accumulator's scale."""
        name, weight, scale = str(node.name), layer.weight, layer.weight_scale
        step = self.affine(ranges[_required(node.inputs[0])]).scale
        if layer.bias is not None:
            weight, scale = with_room(weight, scale, layer.bias, step)
        self.dequantize(node, 1, (weight, scale.astype(np.float32)), f"{name}.weight", axis=1)
        if layer.bias is not None:
            self.dequantize(node, 2, bias_steps(layer.bias, step, scale), f"{name}.bias", axis=0)

    def write_constants(self, node: ir.Node, ranges: dict[ir.Value, Range]) -> None:
        """Float constants in the activation type; what Concat joins has the range of the result."""
        for index, value in enumerate(node.inputs):
            if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
                continue
            array = value.const_value.numpy()
            joined = node.op_type == "Concat"
            reach = ranges[node.outputs[0]] if joined else (float(array.min()), float(array.max()))
            affine = self.affine(reach)
            coded = affine.codes(array).astype(affine.dtype), np.asarray(affine.scale, np.float32)
            self.dequantize(node, index, coded, f"{node.name}.constant{index}", zero=affine.zero_point)

    def dequantize(
        self,
        node: ir.Node,
        index: int,
        coded: tuple[Array, Array],
        name: str,
        *,
        axis: int | None = None,
        zero: int = 0,
    ) -> None:
        """Let an input of a node be the DequantizeLinear of integers with their scale."""
        integers, scale = coded
        zeros = np.full(scale.shape, zero, integers.dtype)
        parts = [self.constant(integers, name), self.constant(scale, name), self.constant(zeros, name)]
        made = ir.node("DequantizeLinear", parts, {} if axis is None else {"axis": axis}, name=f"{name}.real")
        made.outputs[0].name = made.name
        self.graph.insert_before(node, made)
        node.replace_input_with(index, made.outputs[0])

    def constant(self, array: Array, name: str) -> ir.Value:
        self.constants += 1
        return stored(self.graph, array, f"{name}.{self.constants}")


def _moved_from(value: ir.Value) -> list[ir.Value]:
    """What operators that only move values make of a value, and of what they made."""
    made = [output for use in value.uses() if use.node.op_type in MOVES for output in use.node.outputs]
    return made + [further for output in made for further in _moved_from(output)]


def _floats(node: ir.Node) -> list[ir.Value]:
    return [output for output in node.outputs if output.dtype == ir.DataType.FLOAT]


def _required(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise ModelError("a linear layer reads nothing")
    return value
