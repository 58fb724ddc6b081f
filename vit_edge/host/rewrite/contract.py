"""What a canonical ViT graph must be, block by block; describing it and checking it are one walk.

Every composite gets its canonical name on the way (`blocks.3.fc2`), which is what calibration, quantization
and reports call it by.
"""

import dataclasses
from typing import Any, NoReturn

import onnx_ir as ir

from vit_edge.errors import ContractError
from vit_edge.host.rewrite.composites import (
    ACTIVATIONS,
    ATTENTION,
    DOMAIN,
    EMBED,
    LINEAR,
    MEAN,
    PERMUTE,
    ROTARY,
    SELECT,
    SWISH,
    composites,
    is_activation,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.rule import Outcome, producer_of
from vit_edge.host.rewrite.values import by_head, integer, integers, number, only_user, static_shape, users

TOKENWISE = ("LayerNormalization", "Add", "Sub", "Mul", "Div", "Concat", "Split", "Reshape", *ACTIVATIONS)


@dataclasses.dataclass(frozen=True)
class Description:
    """A canonical ViT in numbers; `image` and `patch` are (height, width) in pixels."""

    depth: int
    stages: tuple[
        int, ...
    ]  # blocks of each; a plain ViT has one stage. Widths and tokens are those of the last
    width: int
    heads: int
    mlp_width: int
    activation: str
    tokens: int
    prefix_tokens: int
    last_block_tokens: int  # rows that the last block computes; fewer than `tokens` where the head reads few
    pooling: str  # "tokens 0..1", "mean" or both
    classes: int
    image: tuple[int, int]
    patch: tuple[int, int]
    channels: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}


def describe(model: ir.Model, name: str, outcomes: tuple[Outcome, ...] = ()) -> Description:
    """Walk the graph of composites, name its nodes, and say what it is.

    Raises:
        ContractError: the graph is not a canonical ViT; names the block and what was found there.
    """
    return _Walk(model.graph, name, outcomes).run()


class _Walk:
    def __init__(self, graph: ir.Graph, name: str, outcomes: tuple[Outcome, ...]) -> None:
        self.graph, self.name, self.outcomes = graph, name, outcomes
        self.where = "embedding"
        self.activations: set[str] = set()
        self.mlp_widths: set[int] = set()
        self.stages = [0]

    def run(self) -> Description:
        embeds, attentions = list(composites(self.graph, EMBED)), list(composites(self.graph, ATTENTION))
        if len(embeds) != 1:
            self.fail(f"expected one patch embedding, found {len(embeds)}{self.declined('RaiseEmbed')}")
        self.check_attentions()
        pools = [node for node in attentions if not _depends(node.inputs[0])]
        attentions = [node for node in attentions if node not in pools]
        if not attentions:
            self.fail("found no attention")
        embed = embeds[0]
        embed.name = "embed"
        if embed.inputs[0] is not self.graph.inputs[0]:
            made = _kind(embed.inputs[0].producer() if embed.inputs[0] is not None else None)
            self.fail(
                f"the patches are cut from what {made} makes of the image{self.declined('FoldNormalisation')}"
            )
        stream = self.after_embedding(embed)
        for i, attention in enumerate(attentions):
            self.where = f"block {i}"
            stream = self.merged(f"blocks.{i}", stream)
            stream = self.block(f"blocks.{i}", stream, attention)
            self.stages[-1] += 1
        self.where = "head"
        if len(pools) > 1:
            self.fail(f"found {len(pools)} attentions with a learned query, expected one at most")
        for pool in pools:
            self.pool(pool)
        pooling = self.head(stream)
        self.check_tokenwise()
        return self.summary(embed, attentions, pooling, stream)

    def check_attentions(self) -> None:
        """Every Softmax but one that makes the output was recognised as a part of an attention."""
        found = 0
        for node in self.graph:
            found += is_composite(node, ATTENTION)
            if is_op(node, "Softmax") and not node.outputs[0].is_graph_output():
                self.where = f"block {found}"
                reason = self.declined("RaiseAttention")
                self.fail(f"found {_kind(node)}, but not in softmax(q k^T scale) v of one image{reason}")

    def summary(
        self, embed: ir.Node, attentions: list[ir.Node], pooling: str, stream: ir.Value
    ) -> Description:
        width = self.shape(attentions[-1].outputs[0])[1]
        tokens = self.shape(embed.outputs[0])[0] if len(self.stages) == 1 else self.shape(stream)[0]
        _, channels, height, columns = static_shape(embed.inputs[0]) or (0, 0, 0, 0)
        patch = integers(embed, "patch")
        heads = {integer(attention, "heads") for attention in attentions[-self.stages[-1] :]}
        if len(heads) > 1 or len(self.mlp_widths) > 1 or len(self.activations) > 1:
            self.where = "blocks"
            self.fail(
                f"they differ: heads {_listed(heads)}, MLP widths {_listed(self.mlp_widths)}, "
                f"activations {_listed(self.activations)}"
            )
        return Description(
            depth=len(attentions),
            stages=tuple(self.stages),
            width=width,
            heads=heads.pop(),
            mlp_width=self.mlp_widths.pop(),
            activation=self.activations.pop(),
            tokens=tokens,
            prefix_tokens=integer(embed, "prefix"),
            last_block_tokens=self.shape(attentions[-1].outputs[0])[0],
            pooling=pooling,
            classes=self.shape(self.graph.outputs[0])[1],
            image=(height, columns),
            patch=(patch[0], patch[1]),
            channels=channels,
        )

    def after_embedding(self, embed: ir.Node) -> ir.Value:
        """The token stream; CLIP-like models normalise it first."""
        return self.behind("LayerNormalization", embed.outputs[0], "embed.norm")

    def merged(self, name: str, stream: ir.Value) -> ir.Value:
        """The stream of the next stage where patches are merged in front of a block: fewer, and wider."""
        made = self.behind(PERMUTE, stream, f"{name}.merge_order")
        if made is stream:
            return stream
        made = self.behind("Reshape", made, f"{name}.merge_reshape")
        made = self.behind("LayerNormalization", made, f"{name}.merge_layernormalization")
        linear = self.only(made, LINEAR, "the layer that merges patches")
        linear.name = f"{name}.merge"
        self.stages.append(0)
        self.mlp_widths.clear()
        return self.behind("LayerNormalization", linear.outputs[0], f"{name}.merge_norm")

    def block(self, name: str, stream: ir.Value, attention: ir.Node) -> ir.Value:
        """One encoder layer: x + proj(attention(norm1(x))), then x + fc2(act(fc1(norm2(x))))."""
        attention.name = f"{name}.attention"
        self.projections(name, stream, attention)
        mixed = self.behind(SELECT, attention.outputs[0], f"{name}.attention_rows")
        mixed = self.behind("LayerNormalization", mixed, f"{name}.attention_norm")
        proj = self.only(mixed, LINEAR, "the output projection behind attention")
        proj.name = f"{name}.proj"
        branch = self.behind(PERMUTE, proj.outputs[0], f"{name}.attention_restored")
        middle = self.residual(f"{name}.add1", branch, stream)
        norm = next((n for n in users(middle) if is_op(n, "LayerNormalization")), None)
        if norm is None:
            self.fail(f"expected a LayerNormalization behind the attention, found {_kinds(middle)}")
        norm.name = f"{name}.norm2"
        return self.residual(f"{name}.add2", self.mlp(name, norm.outputs[0]), middle)

    def mlp(self, name: str, x: ir.Value) -> ir.Value:
        """fc2(act(fc1(x))); or gated, fc2(norm(act(fc1(x)) * its other half)), with or without that norm."""
        fc1 = self.only(x, LINEAR, "the first layer of the MLP")
        fc1.name, made = f"{name}.fc1", fc1.outputs[0]
        split = only_user(made)
        if is_op(split, "Split") and split is not None:
            split.name, made = f"{name}.gate_split", split.outputs[0]
        act = only_user(made)
        if act is None or not is_activation(act):
            self.fail(f"expected the activation of the MLP, found {_kinds(made)}")
        act.name, made, kind = f"{name}.act", act.outputs[0], _activation(act)
        if is_op(split, "Split") and split is not None:
            kind = f"gated_{kind}"
            made = self.gated(name, made, split.outputs[1])
        made = self.behind("LayerNormalization", made, f"{name}.mlp_norm")
        fc2 = self.only(made, LINEAR, "the second layer of the MLP")
        fc2.name = f"{name}.fc2"
        self.activations.add(kind)
        self.mlp_widths.add(self.shape(fc2.inputs[0])[1])  # type: ignore[arg-type]
        return fc2.outputs[0]

    def gated(self, name: str, activated: ir.Value, other: ir.Value) -> ir.Value:
        """The product of both halves."""
        product = only_user(activated)
        if product is None or not is_op(product, "Mul") or only_user(other) is not product:
            self.fail(f"expected the product of both halves of the gated MLP, found {_kinds(activated)}")
        product.name = f"{name}.gate"
        return product.outputs[0]

    def behind(self, kind: str, value: ir.Value, name: str) -> ir.Value:
        """Behind the one node of a kind that alone reads a value, where there is one; else the value."""
        node = only_user(value)
        if node is None or not (is_op(node, kind) or is_composite(node, kind)):
            return value
        node.name = name
        return node.outputs[0]

    def pool(self, attention: ir.Node) -> None:
        """Name an attention with a learned query: its keys and values, its projection, and its MLP."""
        attention.name = "pool.attention"
        for value in attention.inputs[1:3]:
            node = None if value is None else value.producer()
            if is_op(node, "Split") and node is not None:
                node.name, node = "pool.split", producer_of(node.inputs[0])  # type: ignore[arg-type]
            if node is None or not is_composite(node, LINEAR):
                self.fail(f"the keys or values of the attention that pools are made by {_kind(node)}")
            node.name = "pool.kv"
        made = attention.outputs[0]
        for name in ("pool.proj", "pool.fc1", "pool.fc2"):
            linear = self.next_linear(made)
            if linear is None or linear.outputs[0].is_graph_output():
                return  # the head, which has its own name
            linear.name, made = name, linear.outputs[0]

    def next_linear(self, value: ir.Value) -> ir.Node | None:
        """The one Linear that stands next behind a value."""
        linears = [node for node in _downstream(value) if is_composite(node, LINEAR)]
        return next((node for node in linears if not any(_reads(node, other) for other in linears)), None)

    def projections(self, name: str, stream: ir.Value, attention: ir.Node) -> None:
        """Queries, keys and values are Linears of one LayerNormalization of the stream."""
        made: dict[int, ir.Node] = {}
        for letter, operand in zip("qkv", attention.inputs[:3], strict=True):
            chain, value = by_head(operand)
            for each in chain:
                each.name = f"{name}.{letter}_{'rotary' if is_composite(each, ROTARY) else 'norm'}"
            node = value.producer() if value is not None else None
            if is_op(node, "Split") and node is not None:
                node.name = f"{name}.split"
                node = node.inputs[0].producer() if node.inputs[0] is not None else None
            if node is None or not is_composite(node, LINEAR):
                self.fail(f"the {letter} of attention is made by {_kind(node)}, expected a linear projection")
            node.name = f"{name}.{letter}" if id(node) not in made else f"{node.name}{letter}"
            made[id(node)] = node
        for node in made.values():
            norm = self.unselected(node.inputs[0])
            source = norm.producer() if norm is not None else None
            if source is None or not is_op(source, "LayerNormalization"):
                self.fail(
                    f"the input of {node.name} is {_kind(source)}, expected the pre-norm LayerNormalization"
                )
            if source.inputs[0] is not stream:
                self.fail(
                    f"the LayerNormalization in front of attention does not read the {self.where} input"
                )
            source.name = f"{name}.norm1"

    def residual(self, name: str, branch: ir.Value, stream: ir.Value) -> ir.Value:
        """The sum of the branch and the stream (or the selected rows of it)."""
        add = only_user(branch)
        if add is None or not is_op(add, "Add"):
            self.fail(f"expected the residual Add, found {_kinds(branch)}")
        others = [value for value in add.inputs if value is not branch]
        if len(others) != 1 or self.unselected(others[0]) is not stream:
            self.fail("the residual Add does not join the stream that the branch left")
        add.name = name
        return add.outputs[0]

    def head(self, stream: ir.Value) -> str:
        """Name what is behind the last block; say what it pools."""
        pooled, linears, norms = set(), 0, 0
        rows = self.shape(stream)[0]
        reached = _downstream(stream)
        for node in reached:
            if is_composite(node, SELECT):
                pooled.add(f"tokens {integer(node, 'start')}..{integer(node, 'stop')}")
            elif is_composite(node, MEAN):
                pooled.add("mean")
            elif is_composite(node, ATTENTION):
                pooled.add("attention")
            elif is_composite(node, LINEAR) and (node.name or "").startswith("pool."):
                continue
            elif is_composite(node, LINEAR):
                node.name, linears = f"head.{linears}" if linears else "head", linears + 1
            elif is_op(node, "LayerNormalization"):
                node.name, norms = f"norm.{norms}" if norms else "norm", norms + 1
        if self.shape(self.graph.outputs[0])[0] != 1:
            self.fail(
                f"the output has the shape {self.shape(self.graph.outputs[0])}, expected one row of logits"
            )
        if not linears:
            self.fail("expected a linear classifier behind the last block")
        return " and ".join(sorted(pooled)) or f"tokens 0..{rows}"

    def check_tokenwise(self) -> None:
        """Nothing in the graph depends on the batch size."""
        for node in self.graph:
            known = node.domain == DOMAIN or any(is_op(node, kind) for kind in TOKENWISE)
            if not known:
                self.where = "graph"
                self.fail(f"{_kind(node)} belongs to no block")

    def unselected(self, value: ir.Value | None) -> ir.Value | None:
        """The value from which rows were selected or put into another order, or the value itself."""
        while value is not None and (is_composite(value, SELECT) or is_composite(value, PERMUTE)):
            value = producer_of(value).inputs[0]
        return value

    def only(self, value: ir.Value, composite: str, expected: str) -> ir.Node:
        node = only_user(value)
        if node is None or not is_composite(node, composite):
            self.fail(f"expected {expected}, found {_kinds(value)}")
        return node

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        shape = static_shape(value)
        if shape is None or len(shape) != 2:
            self.fail(f"{value.name} has the shape {shape}, expected (rows, columns)")
        return shape

    def declined(self, rule: str) -> str:
        """Why a rule refused, for the message."""
        reasons = [reason for outcome in self.outcomes if outcome.rule == rule for reason in outcome.declined]
        telling = [reason for reason in reasons if "not a product" not in reason]
        return f" ({telling[0]})" if telling else ""

    def fail(self, what: str) -> NoReturn:
        raise ContractError(f"{self.name} is not a canonical ViT: {self.where}: {what}")


def _downstream(value: ir.Value) -> list[ir.Node]:
    reached: dict[ir.Node, None] = {}
    pending = [value]
    while pending:
        for node in users(pending.pop()):
            if node not in reached:
                reached[node] = None
                pending.extend(node.outputs)
    return list(reached)


def _depends(value: ir.Value | None) -> bool:
    """Whether a value is computed from the image."""
    return value is not None and value.producer() is not None


def _reads(node: ir.Node, other: ir.Node) -> bool:
    """Whether a node depends on what another makes."""
    return node is not other and node in _downstream(other.outputs[0])


def _activation(node: ir.Node) -> str:
    if is_composite(node, SWISH):
        alpha = number(node, "alpha")
        known = {1.0: "silu", 1.702: "quick_gelu"}
        return known.get(round(alpha, 4), f"swish({alpha:.4g})")
    attribute = node.attributes.get("approximate")
    tanh = attribute is not None and attribute.as_string() == "tanh"
    return "gelu_tanh" if tanh else node.op_type.lower()


def _listed(found: set[int] | set[str]) -> str:
    return " and ".join(sorted(str(item) for item in found))


def _kind(node: ir.Node | None) -> str:
    return "a graph input" if node is None else f"{node.op_type} ({node.name})"


def _kinds(value: ir.Value) -> str:
    return ", ".join(_kind(_reader(node)) for node in users(value)) or "nothing"


def _reader(node: ir.Node) -> ir.Node:
    """What stands behind Reshapes, which say nothing to a reader."""
    while is_op(node, "Reshape") and (behind := only_user(node.outputs[0])) is not None:
        node = behind
    return node
