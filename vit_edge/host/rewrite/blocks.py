"""What an encoder layer, merged patches and an attention that pools must be; each node gets its name here."""

import onnx_ir as ir

from vit_edge.host.rewrite.composites import (
    HEAD_UNIT,
    LINEAR,
    PERMUTE,
    ROTARY,
    SELECT,
    is_activation,
    is_composite,
    is_norm,
    is_op,
)
from vit_edge.host.rewrite.rule import producer_of
from vit_edge.host.rewrite.values import by_head, only_user, users
from vit_edge.host.rewrite.walk import Walk, activation_of, kind_of, kinds_of

_BY_HEAD = {"rotary": ROTARY, "unit": HEAD_UNIT}


class Blocks:
    """Goes through the blocks of one graph, and collects what they have in common.

    `stages` counts blocks; activations and MLP widths are those of the last stage.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.activations: set[str] = set()
        self.mlp_widths: set[int] = set()
        self.stages = [0]

    def merged(self, name: str, stream: ir.Value) -> ir.Value:
        """The stream of the next stage where patches are merged in front of a block: fewer, and wider."""
        made = self.walk.behind(PERMUTE, stream, f"{name}.merge_order")
        if made is stream:
            return stream
        made = self.walk.behind("Reshape", made, f"{name}.merge_reshape")
        made = self.walk.behind_norm(made, f"{name}.merge_layernormalization")
        linear = self.walk.only(made, LINEAR, "the layer that merges patches")
        linear.name = f"{name}.merge"
        self.stages.append(0)
        self.mlp_widths.clear()
        return self.walk.behind_norm(linear.outputs[0], f"{name}.merge_norm")

    def block(self, name: str, stream: ir.Value, attention: ir.Node) -> ir.Value:
        """One encoder layer: x + proj(attention(norm1(x))), then x + fc2(act(fc1(norm2(x)))).

        Or with the normalization of each half behind it, in front of its sum.
        """
        attention.name = f"{name}.attention"
        self.projections(name, stream, attention)
        mixed = self.walk.behind(SELECT, attention.outputs[0], f"{name}.attention_rows")
        mixed = self.walk.behind_norm(mixed, f"{name}.attention_norm")
        proj = self.walk.only(mixed, LINEAR, "the output projection behind attention")
        proj.name = f"{name}.proj"
        branch = self.walk.behind(PERMUTE, proj.outputs[0], f"{name}.attention_restored")
        behind = self.walk.behind_norm(branch, f"{name}.post_norm1")
        middle = self.residual(f"{name}.add1", behind, stream)
        if behind is not branch:  # Swin V2: both halves are normalised behind, not in front
            made = self.mlp(name, middle)
            made = self.walk.behind_norm(made, f"{name}.post_norm2")
            return self.residual(f"{name}.add2", made, middle)
        norm = next((n for n in users(middle) if is_norm(n)), None)
        if norm is None:
            self.walk.fail(f"expected a normalization behind the attention, found {kinds_of(middle)}")
        if only_user(middle) is norm and any(is_op(node, "Add") for node in users(norm.outputs[0])):
            self.walk.fail(
                "the sum behind the attention is normalised itself (post-norm); expected a normalization "
                "in front of each half, or behind each half in front of its sum"
            )
        norm.name = f"{name}.norm2"
        return self.residual(f"{name}.add2", self.mlp(name, norm.outputs[0]), middle)

    def mlp(self, name: str, x: ir.Value) -> ir.Value:
        """fc2(act(fc1(x))); or gated, fc2(norm(act(fc1(x)) * its other half)), with or without that norm."""
        first = [node for node in users(x) if is_composite(node, LINEAR)]
        fc1 = first[0] if len(first) == 1 else self.walk.only(x, LINEAR, "the first layer of the MLP")
        fc1.name, made = f"{name}.fc1", fc1.outputs[0]
        split = only_user(made)
        if is_op(split, "Split") and split is not None:
            split.name, made = f"{name}.gate_split", split.outputs[0]
        act = only_user(made)
        if act is None or not is_activation(act):
            self.walk.fail(f"expected the activation of the MLP, found {kinds_of(made)}")
        act.name, made, kind = f"{name}.act", act.outputs[0], activation_of(act)
        if is_op(split, "Split") and split is not None:
            kind = f"gated_{kind}"
            made = self.gated(name, made, split.outputs[1])
        made = self.walk.behind_norm(made, f"{name}.mlp_norm")
        fc2 = self.walk.only(made, LINEAR, "the second layer of the MLP")
        fc2.name = f"{name}.fc2"
        self.activations.add(kind)
        self.mlp_widths.add(self.walk.shape(fc2.inputs[0])[1])  # type: ignore[arg-type]
        return fc2.outputs[0]

    def gated(self, name: str, activated: ir.Value, other: ir.Value) -> ir.Value:
        """The product of both halves."""
        product = only_user(activated)
        if product is None or not is_op(product, "Mul") or only_user(other) is not product:
            self.walk.fail(
                f"expected the product of both halves of the gated MLP, found {kinds_of(activated)}"
            )
        product.name = f"{name}.gate"
        return product.outputs[0]

    def pool(self, attention: ir.Node) -> None:
        """Name an attention with a learned query: its keys and values, its projection, and its MLP."""
        attention.name = "pool.attention"
        for value in attention.inputs[1:3]:
            node = None if value is None else value.producer()
            if is_op(node, "Split") and node is not None:
                node.name, node = "pool.split", producer_of(node.inputs[0])  # type: ignore[arg-type]
            if node is None or not is_composite(node, LINEAR):
                self.walk.fail(f"the keys or values of the attention that pools are made by {kind_of(node)}")
            node.name = "pool.kv"
        made = attention.outputs[0]
        for name in ("pool.proj", "pool.fc1", "pool.fc2"):
            linear = self.walk.next_linear(made)
            if linear is None or linear.outputs[0].is_graph_output():
                return  # the head, which has its own name
            linear.name, made = name, linear.outputs[0]

    def projections(self, name: str, stream: ir.Value, attention: ir.Node) -> None:
        """Queries, keys and values are Linears of one normalization of the stream."""
        made: dict[int, ir.Node] = {}
        for letter, operand in zip("qkv", attention.inputs[:3], strict=True):
            chain, value = by_head(operand)
            for each in chain:
                kind = next((word for word, op in _BY_HEAD.items() if is_composite(each, op)), "norm")
                each.name = f"{name}.{letter}_{kind}"
            node = value.producer() if value is not None else None
            if is_op(node, "Split") and node is not None:
                node.name = f"{name}.split"
                node = node.inputs[0].producer() if node.inputs[0] is not None else None
            if node is None or not is_composite(node, LINEAR):
                self.walk.fail(
                    f"the {letter} of attention is made by {kind_of(node)}, expected a linear projection"
                )
            node.name = f"{name}.{letter}" if id(node) not in made else f"{node.name}{letter}"
            made[id(node)] = node
        for node in made.values():
            norm = self.walk.unselected(node.inputs[0])
            if norm is stream:
                continue  # normalised behind, as the residual shows
            source = norm.producer() if norm is not None else None
            if source is None or not is_norm(source):
                self.walk.fail(
                    f"the input of {node.name} is {kind_of(source)}, expected the normalization in front"
                )
            if source.inputs[0] is not stream:
                self.walk.fail(
                    f"the normalization in front of attention does not read the {self.walk.where} input"
                )
            source.name = f"{name}.norm1"

    def residual(self, name: str, branch: ir.Value, stream: ir.Value) -> ir.Value:
        """The sum of the branch and the stream (or the selected rows of it)."""
        add = only_user(branch)
        if add is None or not is_op(add, "Add"):
            self.walk.fail(f"expected the residual Add, found {kinds_of(branch)}")
        others = [value for value in add.inputs if value is not branch]
        if len(others) != 1 or self.walk.unselected(others[0]) is not stream:
            self.walk.fail("the residual Add does not join the stream that the branch left")
        add.name = name
        return add.outputs[0]
