"""Lowering node by node: each composite becomes the operators that its plan says."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.errors import ModelError
from vit_edge.host.affine import Affine
from vit_edge.host.lower import attention as attentions
from vit_edge.host.lower import embed as embeds
from vit_edge.host.lower import merging, tokens
from vit_edge.host.lower.conv import activation_behind, int8_conv, is_plain_conv
from vit_edge.host.lower.embed import Normalisation, Patches
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.heads import treated
from vit_edge.host.lower.in_codes import packed_in_codes, split_in_codes
from vit_edge.host.lower.linear import float_linear, int8_linear
from vit_edge.host.lower.several import followed
from vit_edge.host.lower.sizes import (
    heads_of,
    images_apart,
    is_by_head,
    is_packed_split,
    joins_rows,
    patches_of,
    serves_attention,
)
from vit_edge.host.plan import QuantPlan
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import (
    ATTENTION,
    EMBED,
    LINEAR,
    MEAN,
    MERGE,
    RMS_NORM,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.values import (
    adds_table,
    by_head,
    constant_of,
    integer,
    linear_parts,
    only_user,
    static_shape,
)
from vit_edge.spec import GraphStyle, InputForm, ModelForm


class NodeWriter:
    """Writes what each node of a canonical graph becomes, for one form of file.

    `given` is the file's input, `made` holds what every value has become, `taps` the activations that can be
    asked for by name.
    """

    def __init__(
        self,
        canonical: Canonical,
        form: ModelForm,
        normalisation: Normalisation | None,
        plan: QuantPlan,
        given: ir.Value,
    ) -> None:
        self.canonical, self.form, self.normalisation, self.plan = canonical, form, normalisation, plan
        self.image, self.given = canonical.model.graph.inputs[0], given
        self.w, self.in_codes = GraphWriter(form), functools.partial(packed_in_codes, plan, form.style)
        self.made: dict[ir.Value, ir.Value] = {}
        self.taps: dict[str, ir.Value] = {}
        self.coded: dict[ir.Value, Affine] = {}  # what was just restored from codes, and from which
        self.moved: dict[ir.Value, Affine] = {}  # what was so restored and then moved, and its uint8 range
        self.convs_before: dict[ir.Node, str] = {}  # a Relu or Clip -> the convolution that it alone reads
        self.weights: dict[str, attentions.Weights] = {}

    def node(self, node: ir.Node) -> None:
        """One node, with what only it needs."""
        if is_composite(node, LINEAR):
            if self.in_codes(only_user(node.outputs[0])) is None:  # else its attention writes it
                self.made[node.outputs[0]] = self.linear(node)
        elif is_composite(node, ATTENTION):
            self.made[node.outputs[0]] = self.attention(node)
        elif is_composite(node, EMBED):
            self.made[node.outputs[0]] = self.embed(node)
        elif is_plain_conv(node):
            self.conv(node)
        elif is_composite(node, MERGE):
            self.merge(node)
        elif (made := self.tokens(node)) is not None:
            self.made[node.outputs[0]] = made
        elif is_by_head(node) and not serves_attention(node):
            self.made[node.outputs[0]] = self.by_itself(node)
        elif not is_packed_split(node) and not is_by_head(node):
            self.copy(node)

    def linear(self, node: ir.Node) -> ir.Value:
        """A Linear: float, or INT8 by its plan."""
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

    def conv(self, node: ir.Node) -> None:
        """A Conv outside the patch embedding: as it is, or INT8 by its plan."""
        name = node.name or "conv"
        plan, x = self.plan.convs.get(name), self.value(node.inputs[0])
        self.taps[name] = x
        if plan is None:
            self.copy(node)
        else:
            if x in self.moved:  # coding it in the same range again changes nothing
                plan = dataclasses.replace(plan, activation=self.moved[x])
            attributes: dict[str, Any] = {key: attr for key, attr in node.attributes.items()}  # noqa: C416
            made = int8_conv(self.w, x, plan, self.coded.get(x), attributes, name)
            self.made[node.outputs[0]] = made
        behind = activation_behind(node)
        if behind is None:
            self.result(node.outputs[0], name)
        else:
            self.convs_before[behind] = name

    def result(self, value: ir.Value, name: str) -> None:
        """What a convolution gives, in codes and back where it is quantized."""
        plan = self.plan.convs.get(name)
        if plan is not None:
            self.made[value] = self.w.activation(self.made[value], plan.result, f"{name}.result")
            self.coded[self.made[value]] = self.w.activation_range(plan.result)
            self.moved[self.made[value]] = plan.result
        self.taps[f"{name}.result"] = self.made[value]

    def attention(self, node: ir.Node) -> ir.Value:
        """An Attention: float, or INT8 by its plan; its heads joined again."""
        name = node.name or "attention"
        heads = heads_of(node)
        q, k, v = self.operands(node, heads, name)
        self.taps.update({f"{name}.{letter}": value for letter, value in zip("qkv", (q, k, v), strict=True)})
        plan, added = self.plan.attentions.get(name), attentions.added_in(node)
        if len(node.inputs) > 4 and node.inputs[4] is not None:
            added = merging.sized(self.w, added, self.value(node.inputs[4]), heads.keys, name)
        if plan is None:
            mixed, weights = attentions.float_core(self.w, q, k, v, added, name)
            self.taps[f"{name}.p"] = weights.parts
        else:
            mixed, weights = attentions.int8_core(self.w, q, k, v, plan, added, name)
        if len(node.outputs) > 1:
            self.made[node.outputs[1]] = merging.alike(self.w, k, node, name)
        self.weights[name] = weights
        joined = attentions.join_heads(self.w, mixed, heads, name)
        self.taps[f"{name}.out"] = joined
        return joined

    def merge(self, node: ir.Node) -> None:
        """A MergeTokens: the tokens that are left, and their sizes."""
        given = [None if value is None else self.value(value) for value in node.inputs]
        self.made.update(zip(node.outputs, merging.written(self.w, node, given), strict=True))

    def probabilities(self, node: ir.Node) -> ir.Value:
        """What an Attention that was written weighs its values with, (batch, heads, queries, keys)."""
        name = node.name or "attention"
        weights = self.weights[name]
        if weights.total is None:
            return weights.parts
        return self.w.op("Div", [weights.parts, weights.total], f"{name}.weighed_with")

    def operands(self, node: ir.Node, heads: attentions.Heads, name: str) -> list[ir.Value]:
        """Queries, keys and values as (batch, heads, rows, width)."""
        parts: list[ir.Value] = []
        for i, (letter, operand) in enumerate(zip("qkv", node.inputs[:3], strict=True)):
            chain, value = by_head(operand)
            split = value.producer() if value is not None else None
            if value is not None and split is not None and is_packed_split(split):
                if split.outputs[0] not in self.made:
                    self.made.update(zip(split.outputs, self.packed(split, heads, name), strict=True))
                part = self.made[value]
            else:
                rows = heads.queries if i == 0 else heads.keys
                part = attentions.split_heads(self.w, self.value(value), rows, heads, f"{name}.{letter}")
            parts.append(self.by_head(part, chain, f"{name}.{letter}"))
        return parts

    def packed(self, split: ir.Node, heads: attentions.Heads, name: str) -> list[ir.Value]:
        """The parts of one Linear that an attention reads, (batch, heads, rows, width)."""
        layer = self.in_codes(split)
        if layer is not None:
            return split_in_codes(self.w, self.value(layer.given), layer, heads, name)
        return attentions.split_packed(self.w, self.value(split.inputs[0]), len(split.outputs), heads, name)

    def by_head(self, x: ir.Value, chain: Sequence[ir.Node], name: str) -> ir.Value:
        """What is done to each head of an operand (batch, heads, rows, width) by itself."""
        return treated(self.w, x, chain, name, self.canonical.name)

    def by_itself(self, node: ir.Node) -> ir.Value:
        """The same of one whose attention was not recognised."""
        rows, dim = static_shape(node.outputs[0]) or (0, 0)
        count, name = integer(node, "heads"), node.name or node.op_type
        heads = attentions.Heads(count, dim // count, rows, rows)
        apart = attentions.split_heads(self.w, self.value(node.inputs[0]), rows, heads, name)
        return attentions.join_heads(self.w, self.by_head(apart, [node], name), heads, f"{name}.joined")

    def embed(self, node: ir.Node) -> ir.Value:
        """The patch embedding, from the pixels or the values of this form of file."""
        image, weight, table = linear_parts(node)
        if table is None:
            raise ModelError(f"{self.canonical.name}: the patch embedding has no table")
        patches = patches_of(node)
        form, normal, own = self.form.input, self.normalisation, image is self.image
        given = self.given if own else self.value(image)
        if not own or (form is InputForm.PIXEL_VALUES and self.plan.embed is None):
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
        compiled = self.form.style is GraphStyle.COMPILER and self.form.batch == 1
        place = embeds.join_table if compiled else embeds.add_table
        return place(self.w, projected, table, patches)

    def tokens(self, node: ir.Node) -> ir.Value | None:
        """What moves, joins or pools tokens, RmsNorm and Swish; None of any other node."""
        if self.canonical.description is not None and joins_rows(node):
            longer = (static_shape(node.outputs[0]) or (0, 0))[1]
            return self.w.reshape(self.value(node.inputs[0]), (-1, longer), node.name or node.op_type)
        if adds_table(node):
            x, table = sorted(map(self.value, node.inputs), key=lambda value: value.const_value is not None)
            shape = static_shape(node.outputs[0]) or (0, 0)
            return tokens.with_table(self.w, x, table, (shape[0], shape[1]), node.name or "Add")
        if not tokens.moves(node):
            return None
        reads = is_composite(node, MEAN) or is_composite(node, RMS_NORM)
        second = self.value(node.inputs[1]) if reads and len(node.inputs) > 1 else None
        return tokens.written(self.w, node, self.value(node.inputs[0]), second, self.canonical.name)

    def copy(self, node: ir.Node) -> None:
        """An operator that stays as it is."""
        attributes: dict[str, Any] = {key: attr for key, attr in node.attributes.items()}  # noqa: C416
        inputs = followed(
            self.w, node, [None if value is None else self.value(value) for value in node.inputs]
        )
        apart = images_apart(node, self.form.style)
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
        if (is_op(node, "DepthToSpace") or is_op(node, "Slice")) and inputs[0] in self.moved:
            self.moved[outputs[0]] = self.moved[inputs[0]]
        if node in self.convs_before:
            self.result(node.outputs[0], self.convs_before[node])

    def value(self, value: ir.Value | None) -> ir.Value:
        """What a value has become; a constant is written where it is first read."""
        if value is None:
            raise ModelError(f"{self.canonical.name}: a required input is missing")
        if value is self.image and value not in self.made:
            self.made[value] = self.normalised()
        if value not in self.made:
            array = constant_of(value)
            if array is None:
                raise ModelError(f"{self.canonical.name}: {value.name} is read before it is made")
            self.made[value] = self.w.constant(array, value.name or "constant")
        return self.made[value]

    def normalised(self) -> ir.Value:
        """The image as layers other than the patch embedding take it, float32 (images, C, H, W)."""
        if self.form.input is InputForm.PIXEL_VALUES:
            return self.given
        if self.normalisation is None:
            raise ModelError(
                f"{self.canonical.name}: the pixel form needs the mean and std of the preprocessing"
            )
        return embeds.normalised_pixels(self.w, self.given, self.normalisation)
