"""What a canonical ViT graph must be, block by block; describing it and checking it are one walk.

Every composite gets its canonical name on the way (`blocks.3.fc2`), which is what calibration, quantization
and reports call it by.
"""

from collections import Counter

import onnx_ir as ir

from vit_edge.host.rewrite.blocks import Blocks
from vit_edge.host.rewrite.composites import (
    ACTIVATIONS,
    ATTENTION,
    DOMAIN,
    EMBED,
    LINEAR,
    MEAN,
    SELECT,
    composites,
    is_composite,
    is_norm,
    is_op,
    is_spatial,
)
from vit_edge.host.rewrite.description import Description
from vit_edge.host.rewrite.rule import Outcome
from vit_edge.host.rewrite.values import adds_table, integer, integers, only_user, static_shape
from vit_edge.host.rewrite.walk import Walk, depends, downstream, kind_of, listed, upstream
from vit_edge.spec import EMBEDDING

TOKENWISE = ("LayerNormalization", "Add", "Sub", "Mul", "Div", "Concat", "Split", "Reshape", *ACTIVATIONS)


def describe(model: ir.Model, name: str, outcomes: tuple[Outcome, ...] = ()) -> Description:
    """Walk the graph of composites, name its nodes, and say what it is.

    Raises:
        ContractError: the graph is not a canonical ViT; names the block and what was found there.
    """
    return _Contract(Walk(model.graph, name, outcomes)).run()


class _Contract:
    def __init__(self, walk: Walk) -> None:
        self.walk, self.blocks, self.graph = walk, Blocks(walk), walk.graph
        self.dense = any(len(static_shape(value) or ()) > 2 for value in self.graph.outputs)
        self.behind_encoder: list[ir.Node] = []

    def run(self) -> Description:
        embeds, attentions = list(composites(self.graph, EMBED)), list(composites(self.graph, ATTENTION))
        if len(embeds) != 1:
            self.walk.fail(
                f"expected one patch embedding, found {len(embeds)}{self.walk.declined('RaiseEmbed')}"
            )
        self.check_attentions()
        pools = [node for node in attentions if not depends(node.inputs[0])]
        attentions = [node for node in attentions if node not in pools]
        if not attentions:
            self.walk.fail("found no attention")
        embed = embeds[0]
        embed.name = "embed"
        if embed.inputs[0] is not self.graph.inputs[0]:
            made = kind_of(embed.inputs[0].producer() if embed.inputs[0] is not None else None)
            reason = self.walk.declined("FoldNormalisation")
            self.walk.fail(f"the patches are cut from what {made} makes of the image{reason}")
        stream = self.walk.behind_norm(embed.outputs[0], "embed.norm")  # CLIP-like models
        stream = self.positions(stream)
        for i, attention in enumerate(attentions):
            self.walk.where = f"block {i}"
            stream = self.blocks.merged(f"blocks.{i}", stream)
            stream = self.blocks.block(f"blocks.{i}", stream, attention)
            self.blocks.stages[-1] += 1
        self.walk.where = "head"
        if len(pools) > 1:
            self.walk.fail(f"found {len(pools)} attentions with a learned query, expected one at most")
        for pool in pools:
            self.blocks.pool(pool)
        encoder = upstream(stream)
        self.behind_encoder = [node for node in self.graph if node not in encoder]
        pooling = self.head(stream)
        self.check_tokenwise()
        return self.summary(embed, attentions, pooling, stream)

    def positions(self, stream: ir.Value) -> ir.Value:
        """The stream behind positions that are added to it, where they could not be folded into the table."""
        add = only_user(stream)
        if add is None or not adds_table(add):
            return stream
        add.name = "embed.positions"
        return add.outputs[0]

    def check_attentions(self) -> None:
        """Every Softmax but one that makes the output was recognised as a part of an attention."""
        found = 0
        for node in self.graph:
            found += is_composite(node, ATTENTION)
            if is_op(node, "Softmax") and not node.outputs[0].is_graph_output():
                self.walk.where = f"block {found}"
                reason = self.walk.declined("RaiseAttention")
                self.walk.fail(
                    f"found {kind_of(node)}, but not in softmax(q k^T scale) v of one image{reason}"
                )

    def summary(
        self, embed: ir.Node, attentions: list[ir.Node], pooling: str, stream: ir.Value
    ) -> Description:
        blocks, shape = self.blocks, self.walk.shape
        tokens = shape(embed.outputs[0])[0] if len(blocks.stages) == 1 else shape(stream)[0]
        rows, width = shape(attentions[-1].outputs[0])
        _, channels, height, columns = static_shape(embed.inputs[0]) or (0, 0, 0, 0)
        patch = integers(embed, "patch")
        heads = {integer(attention, "heads") for attention in attentions[-blocks.stages[-1] :]}
        if len(heads) > 1 or len(blocks.mlp_widths) > 1 or len(blocks.activations) > 1:
            self.walk.where = "blocks"
            self.walk.fail(
                f"they differ: heads {listed(heads)}, MLP widths {listed(blocks.mlp_widths)}, "
                f"activations {listed(blocks.activations)}"
            )
        return Description(
            depth=len(attentions),
            stages=tuple(blocks.stages),
            width=width,
            heads=heads.pop(),
            mlp_width=blocks.mlp_widths.pop(),
            activation=blocks.activations.pop(),
            tokens=tokens,
            prefix_tokens=integer(embed, "prefix"),
            last_block_tokens=rows,
            pooling=pooling,
            classes=_channels(self.graph.outputs[0]),
            head=self.head_operators(),
            image=(height, columns),
            patch=(patch[0], patch[1]),
            channels=channels,
        )

    def head(self, stream: ir.Value) -> str:
        """Name what is behind the last block; say what it pools."""
        rows = self.walk.shape(stream)[0]
        pooled, linears = self.head_nodes(self.behind_encoder if self.dense else downstream(stream))
        told = " and ".join(sorted(pooled)) or f"tokens 0..{rows}"
        if self.dense:
            return told
        made = self.walk.shape(self.graph.outputs[0])
        if made[0] != 1:
            self.walk.fail(f"the output has the shape {made}, expected one row of numbers")
        if not linears and self.graph.outputs[0].name != EMBEDDING:
            self.walk.fail("expected a linear classifier behind the last block")
        return told

    def head_nodes(self, behind: list[ir.Node]) -> tuple[set[str], int]:
        """Name the layers of a head; what it pools, and how many linear layers it has."""
        pooled, linears, norms = set[str](), 0, 0
        for node in behind:
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
            elif is_norm(node):
                node.name, norms = f"norm.{norms}" if norms else "norm", norms + 1
        return pooled, linears

    def head_operators(self) -> tuple[str, ...]:
        """What a dense head consists of, the most frequent first; layout and arithmetic left out."""
        if not self.dense:
            return ()
        kinds = Counter(node.op_type for node in self.behind_encoder if _is_layer(node))
        ordered = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
        return tuple(f"{count} {kind}" for kind, count in ordered)

    def check_tokenwise(self) -> None:
        """Nothing in the graph depends on the batch size; a dense head may hold anything."""
        free = set(self.behind_encoder) if self.dense else set()
        for node in self.graph:
            if node in free:
                continue
            known = node.domain == DOMAIN or any(is_op(node, kind) for kind in TOKENWISE)
            if not known:
                self.walk.where = "graph"
                self.walk.fail(f"{kind_of(node)} belongs to no block")


def _is_layer(node: ir.Node) -> bool:
    products = any(is_op(node, kind) for kind in ("MatMul", "Gemm"))
    return is_composite(node, LINEAR) or is_spatial(node) or products


def _channels(output: ir.Value) -> int:
    """Of (1, channels), or of a map (1, channels, rows, columns)."""
    shape = static_shape(output) or ()
    return shape[1] if len(shape) in (2, 4) else shape[-1] if shape else 0
