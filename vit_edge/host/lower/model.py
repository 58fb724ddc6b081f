"""Lowering of a whole canonical model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass, ShapeInferencePass

from vit_edge.arrays import Array
from vit_edge.errors import ModelError
from vit_edge.host.lower import attention as attentions
from vit_edge.host.lower import embed as embeds
from vit_edge.host.lower import tokens
from vit_edge.host.lower.embed import Normalisation, Patches
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.half import to_half
from vit_edge.host.lower.linear import float_linear, int8_linear
from vit_edge.host.lower.versions import to_versions
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import (
    ATTENTION,
    EMBED,
    HEAD_NORM,
    LINEAR,
    MEAN,
    PERMUTE,
    ROTARY,
    SELECT,
    SWISH,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.values import (
    attention_bias,
    by_head,
    constant_of,
    integer,
    integers,
    linear_parts,
    number,
    static_shape,
)
from vit_edge.runtime.steps import explained
from vit_edge.spec import LOGITS, PORTABLE, WRITTEN, FloatType, GraphStyle, InputForm, ModelForm


@dataclasses.dataclass(frozen=True)
class LowerSettings:
    """What is written, and with what it is normalised."""

    form: ModelForm = PORTABLE
    normalisation: Normalisation | None = None
    """Needed where the pixels themselves are used."""
    outputs: tuple[str, ...] = (LOGITS,)
    """Names for the first outputs of the graph; the rest is not written."""


def lower(
    canonical: Canonical, settings: LowerSettings, plan: QuantPlan = FLOAT, *, check: bool = True
) -> onnx.ModelProto:
    """The standard-operator form of a canonical model, with every shape inferred, and checked.

    Without `check` neither is done: a quarter of the time, for models that are run once and thrown away.

    Raises:
        ModelError: the model is not canonical and a batch other than 1 or the `pixels` form was asked for.
    """
    with explained(canonical.name, "writing the graph", "please report this model"):
        return _Lowering(canonical, settings, plan, check=check).run()


def lower_taps(
    canonical: Canonical, settings: LowerSettings, plan: QuantPlan, taps: Sequence[str]
) -> tuple[onnx.ModelProto, list[str]]:
    """A model that returns activations instead of logits, and holds only what they need.

    Args:
        canonical: the model.
        settings: the form of the file.
        plan: what is quantized in front of the taps.
        taps: a linear layer's name taps its float input (rows, in), with `.out` its output (rows, out); an
            attention's name with `.q`, `.k` or `.v` taps that operand (batch, heads, rows, width), with `.p`
            its probabilities (batch, heads, rows, keys), which only a float attention has.

    Returns:
        The model, and the names of its outputs in the order of `taps`.
    """
    return _Lowering(canonical, settings, plan).run_taps(taps)


class _Lowering:
    def __init__(
        self, canonical: Canonical, settings: LowerSettings, plan: QuantPlan, *, check: bool = True
    ) -> None:
        self.check = check
        self.canonical, self.settings, self.plan = canonical, settings, plan
        self.w = GraphWriter(settings.form)
        self.made: dict[ir.Value, ir.Value] = {}
        self.taps: dict[str, ir.Value] = {}
        self.image = canonical.model.graph.inputs[0]
        if canonical.description is None and (
            settings.form.batch != 1 or settings.form.input is not InputForm.PIXEL_VALUES
        ):
            raise ModelError(
                f"{canonical.name} is not canonical: it can be written for batch 1 and pixel_values only"
            )

    def run(self) -> onnx.ModelProto:
        given = self.nodes()
        wanted = zip(self.settings.outputs, self.canonical.model.graph.outputs, strict=False)
        return self.finished(given, [self.output(name, result) for name, result in wanted])

    def output(self, name: str, result: ir.Value) -> ir.Value:
        output = self.value(result)
        if output.producer() is None:
            raise ModelError(f"{self.canonical.name}: the output does not depend on the image")
        output.name, output.dtype = name, ir.DataType.FLOAT
        batch = "batch" if self.settings.form.batch is None else self.settings.form.batch
        output.shape = ir.Shape([batch, *self.per_image(result)])
        return output

    def run_taps(self, taps: Sequence[str]) -> tuple[onnx.ModelProto, list[str]]:
        given = self.nodes()
        outputs = [self.taps[tap] for tap in taps]
        for output in outputs:
            output.dtype = ir.DataType.FLOAT
        distinct = list(dict.fromkeys(outputs))
        return self.finished(given, distinct), [str(output.name) for output in outputs]

    def nodes(self) -> ir.Value:
        """Lower every node; returns the input."""
        given = self.input()
        self.made[self.image] = given
        for node in self.canonical.model.graph:
            self.node(node)
        return given

    def finished(self, given: ir.Value, outputs: list[ir.Value]) -> onnx.ModelProto:
        lowered = ir.Graph(
            [given],
            outputs,
            nodes=self.w.nodes,
            initializers=list(self.w.initializers.values()),
            opset_imports={"": WRITTEN.opset},
            name="vit",
        )
        model = ir.Model(lowered, ir_version=WRITTEN.ir, producer_name="vit-edge")
        RemoveUnusedNodesPass()(model)
        if self.settings.form.float_type is FloatType.FLOAT16:
            to_half(model)
        to_versions(model, self.settings.form.versions, self.canonical.name)
        if self.check:
            ShapeInferencePass()(model)
            CheckerPass(full_check=True)(model)
        return ir.to_proto(model)

    def input(self) -> ir.Value:
        form = self.settings.form.input
        shape = self.per_image(self.image)
        if form is InputForm.PIXELS:
            shape = (*shape[1:], shape[0])
        batch = "batch" if self.settings.form.batch is None else self.settings.form.batch
        kind = ir.DataType.FLOAT if form is InputForm.PIXEL_VALUES else ir.DataType.UINT8
        return ir.Value(name=form.value, shape=ir.Shape([batch, *shape]), type=ir.TensorType(kind))

    def node(self, node: ir.Node) -> None:
        if is_composite(node, LINEAR):
            self.made[node.outputs[0]] = self.linear(node)
        elif is_composite(node, ATTENTION):
            self.made[node.outputs[0]] = self.attention(node)
        elif is_composite(node, EMBED):
            self.made[node.outputs[0]] = self.embed(node)
        elif (made := self.tokens(node)) is not None:
            self.made[node.outputs[0]] = made
        elif is_by_head(node) and not serves_attention(node):
            self.made[node.outputs[0]] = self.by_itself(node)
        elif not self.is_packed_split(node) and not is_by_head(node):
            self.copy(node)

    def linear(self, node: ir.Node) -> ir.Value:
        x, weight, bias = linear_parts(node)
        name = node.name or "linear"
        plan = self.plan.linears.get(name)
        self.taps[name] = self.value(x)
        if plan is None:
            made = float_linear(self.w, self.value(x), weight, bias, name)
        else:
            made = int8_linear(self.w, self.value(x), plan, name)
        self.taps[f"{name}.out"] = made
        return made

    def attention(self, node: ir.Node) -> ir.Value:
        name = node.name or "attention"
        heads = heads_of(node)
        q, k, v = self.operands(node, heads, name)
        self.taps.update({f"{name}.{letter}": value for letter, value in zip("qkv", (q, k, v), strict=True)})
        plan = self.plan.attentions.get(name)
        added = attentions.Added(number(node, "scale"), attention_bias(node))
        if plan is None:
            mixed, probabilities = attentions.float_core(self.w, q, k, v, added, name)
            self.taps[f"{name}.p"] = probabilities
        else:
            mixed = attentions.int8_core(self.w, q, k, v, plan, added, name)
        return attentions.join_heads(self.w, mixed, heads, name)

    def operands(self, node: ir.Node, heads: attentions.Heads, name: str) -> list[ir.Value]:
        """Queries, keys and values as (batch, heads, rows, width)."""
        parts: list[ir.Value] = []
        for i, (letter, operand) in enumerate(zip("qkv", node.inputs[:3], strict=True)):
            chain, value = by_head(operand)
            split = value.producer() if value is not None else None
            if value is not None and split is not None and self.is_packed_split(split):
                if split.outputs[0] not in self.made:
                    packed = self.value(split.inputs[0])
                    made = attentions.split_packed(self.w, packed, len(split.outputs), heads, name)
                    self.made.update(zip(split.outputs, made, strict=True))
                part = self.made[value]
            else:
                rows = heads.queries if i == 0 else heads.keys
                part = attentions.split_heads(self.w, self.value(value), rows, heads, f"{name}.{letter}")
            parts.append(self.by_head(part, chain, f"{name}.{letter}"))
        return parts

    def by_head(self, x: ir.Value, chain: Sequence[ir.Node], name: str) -> ir.Value:
        """What is done to each head of an operand (batch, heads, rows, width) by itself."""
        for node in reversed(chain):
            first, second = (constant_of(table) for table in node.inputs[1:])
            if first is None or second is None:
                raise ModelError(f"{self.canonical.name}: the tables of {node.name} are not constant")
            if is_composite(node, ROTARY):
                x = attentions.turned(self.w, x, first, second, f"{name}_rotary")
            else:
                x = attentions.normed(self.w, x, first, second, number(node, "epsilon"), f"{name}_norm")
        return x

    def by_itself(self, node: ir.Node) -> ir.Value:
        """The same of one whose attention was not recognised."""
        rows, dim = static_shape(node.outputs[0]) or (0, 0)
        count, name = integer(node, "heads"), node.name or node.op_type
        heads = attentions.Heads(count, dim // count, rows, rows)
        apart = attentions.split_heads(self.w, self.value(node.inputs[0]), rows, heads, name)
        return attentions.join_heads(self.w, self.by_head(apart, [node], name), heads, f"{name}.joined")

    def is_packed_split(self, node: ir.Node) -> bool:
        """A Split whose parts only attentions read; it is written in head order with them."""
        return is_op(node, "Split") and serves_attention(node)

    def embed(self, node: ir.Node) -> ir.Value:
        image, weight, table = linear_parts(node)
        if table is None:
            raise ModelError(f"{self.canonical.name}: the patch embedding has no table")
        patches = patches_of(node)
        given, form, normal = self.value(image), self.settings.form.input, self.settings.normalisation
        if form is InputForm.PIXEL_VALUES and self.plan.embed is None:
            projected = embeds.float_conv(self.w, given, weight, patches)
            return self.placed(projected, table, patches)
        if normal is None:
            raise ModelError(
                f"{self.canonical.name}: the pixel form needs the mean and std of the preprocessing"
            )
        if self.plan.embed is not None:
            return self.placed(
                *embeds.int8_embed(self.w, given, self.plan.embed, patches, form, normal), patches
            )
        weight, table = embeds.unnormalised(weight, table, patches, normal)
        return self.placed(embeds.float_pixels(self.w, given, weight, patches), table, patches)

    def placed(self, projected: ir.Value, table: Array, patches: Patches) -> ir.Value:
        """The token stream: the prefix, and the patches at their positions."""
        compiled = self.settings.form.style is GraphStyle.COMPILER and self.settings.form.batch == 1
        place = embeds.join_table if compiled else embeds.add_table
        return place(self.w, projected, table, patches)

    def tokens(self, node: ir.Node) -> ir.Value | None:
        """What moves, joins or pools tokens, and Swish; None of any other node."""
        if self.canonical.description is not None and joins_rows(node):
            longer = (static_shape(node.outputs[0]) or (0, 0))[1]
            return self.w.reshape(self.value(node.inputs[0]), (-1, longer), node.name or node.op_type)
        if not any(is_composite(node, kind) for kind in (SELECT, MEAN, PERMUTE, SWISH)):
            return None
        x, name = self.value(node.inputs[0]), node.name or node.op_type
        rows, columns = static_shape(node.inputs[0]) or (0, 0)
        shape = rows, columns
        if is_composite(node, SELECT):
            return tokens.selected(self.w, x, shape, (integer(node, "start"), integer(node, "stop")), name)
        if is_composite(node, MEAN):
            return tokens.mean(self.w, x, shape, name)
        if is_composite(node, SWISH):
            return tokens.swish(self.w, x, number(node, "alpha"), name)
        order = constant_of(node.inputs[1])
        if order is None:
            raise ModelError(f"{self.canonical.name}: the order of {name} is not constant")
        return tokens.permuted(self.w, x, shape, order, name)

    def copy(self, node: ir.Node) -> None:
        attributes: dict[str, Any] = {key: attr for key, attr in node.attributes.items()}  # noqa: C416
        inputs = [None if value is None else self.value(value) for value in node.inputs]
        apart = self.images_apart(node)
        if apart:
            inputs[0] = self.w.reshape(self.value(node.inputs[0]), (-1, *apart), f"{node.name}.images")
        outputs = self.w.ops(node.op_type, inputs, node.name or node.op_type, None, len(node.outputs))
        self.w.nodes[-1].attributes.update(attributes)
        if self.plan.tanh_gelu and is_op(node, "Gelu"):
            self.w.nodes[-1].attributes["approximate"] = ir.AttrString("approximate", "tanh")
        if is_op(node, "LayerNormalization") and "axis" not in attributes:
            axis = ir.AttrInt64("axis", -1)  # written out: not every reader knows the default
            self.w.nodes[-1].attributes["axis"] = axis
        if apart:
            outputs = [self.w.flattened(outputs[0], apart[1], f"{node.name}.flat")]
        self.made.update(zip(node.outputs, outputs, strict=True))

    def images_apart(self, node: ir.Node) -> tuple[int, ...]:
        """(rows, width) per image of a LayerNormalization that keeps images apart; () of anything else.

        Compilers fuse a QuantizeLinear into it only where its input has a batch dimension. And where rows of
        an image are taken from it, it would stand in front of a Reshape that brings the images back: through
        that OpenVINO moves the scale of the normalisation, and fails where the batch is dynamic.
        """
        if not is_op(node, "LayerNormalization"):
            return ()
        readers = [use.node for output in node.outputs for use in output.uses()]
        by_image = any(is_composite(reader, kind) for reader in readers for kind in (SELECT, MEAN, PERMUTE))
        if self.settings.form.style is GraphStyle.KERNELS and not by_image:
            return ()
        shape = static_shape(node.inputs[0]) or ()
        return shape if len(shape) == 2 and shape[0] > 1 and len(node.outputs) == 1 else ()

    def value(self, value: ir.Value | None) -> ir.Value:
        if value is None:
            raise ModelError(f"{self.canonical.name}: a required input is missing")
        if value not in self.made:
            array = constant_of(value)
            if array is None:
                raise ModelError(f"{self.canonical.name}: {value.name} is read before it is made")
            self.made[value] = self.w.constant(array, value.name or "constant")
        return self.made[value]

    def per_image(self, value: ir.Value) -> tuple[int, ...]:
        """The shape without the batch dimension."""
        shape = static_shape(value)
        if shape is None or len(shape) < 2:
            raise ModelError(f"{self.canonical.name}: {value.name} has no static shape")
        return shape[1:]


def joins_rows(node: ir.Node) -> bool:
    """Whether a node makes longer rows of several, as merging patches does."""
    shapes = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return is_op(node, "Reshape") and all(shape is not None and len(shape) == 2 for shape in shapes)


def heads_of(node: ir.Node) -> attentions.Heads:
    """The sizes of an Attention composite."""
    queries, keys = static_shape(node.inputs[0]) or (0, 0), static_shape(node.inputs[1]) or (0, 0)
    count, windows = integer(node, "heads"), integer(node, "windows", 1)
    return attentions.Heads(count, keys[1] // count, queries[0] // windows, keys[0] // windows, windows)


def serves_attention(node: ir.Node) -> bool:
    """Whether attentions alone read what a node makes, directly or behind what treats each head by itself."""
    readers = [use.node for output in node.outputs for use in output.uses()]
    return bool(readers) and all(
        serves_attention(reader) if is_by_head(reader) else is_composite(reader, ATTENTION)
        for reader in readers
    )


def is_by_head(node: ir.Node) -> bool:
    """Whether a node treats each head by itself; it is written in head order, with its attention."""
    return is_composite(node, ROTARY) or is_composite(node, HEAD_NORM)


def patches_of(node: ir.Node) -> Patches:
    """The geometry of an Embed composite."""
    _, channels, height, width = static_shape(node.inputs[0]) or (0, 0, 0, 0)
    patch = integers(node, "patch")
    dim = (static_shape(node.outputs[0]) or (0, 0))[1]
    return Patches(
        height // patch[0], width // patch[1], patch[0], patch[1], channels, integer(node, "prefix"), dim
    )
