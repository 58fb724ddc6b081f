"""Token merging: in each block, behind its attention, the most alike tokens become one. No retraining.

Source: Bolya et al., "Token Merging: Your ViT But Faster" (ICLR 2023), sections 3 and D. Tokens that may
merge are dealt in turn to two sides; each of the first side finds the most alike of the second, by the cosine
between the means of their keys over the heads; the `count` most alike pairs are merged to the mean of what
they stand for. How many that are is each token's size: its logarithm is added to the scores of attention
(proportional attention), and a mean over tokens counts them by it. Tokens in front of the patches (class,
distillation, registers) never merge. Behind it stand the prefix, what is left of the first side, and the
second, each in its order.

This is another function than the model's, so it is no rewrite rule: what it costs is for the gate to say.
Plans of quantization hold for it as they are, since no layer has other weights.
"""

import dataclasses
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Float32
from vit_edge.errors import ContractError, UsageError
from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.canonical import Canonical, Merging, is_dense
from vit_edge.host.rewrite.composites import (
    ATTENTION,
    DOMAIN,
    HEAD_NORM,
    HEAD_UNIT,
    LINEAR,
    MEAN,
    MERGE,
    RMS_NORM,
    ROTARY,
    SELECT,
    SWISH,
    composites,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.contract import TOKENWISE
from vit_edge.host.rewrite.description import Description
from vit_edge.host.rewrite.values import (
    attention_bias,
    by_head,
    integer,
    static_shape,
    typed,
)

_FOLLOWS = (LINEAR, SWISH, RMS_NORM, HEAD_NORM, HEAD_UNIT, ATTENTION, SELECT, MEAN)  # with any number of rows
_ELSE = "leave --merge-tokens out"


@dataclasses.dataclass(frozen=True)
class KeyFrame:
    """How the keys of an attention were moved by folding: what they were is keys * scale + shift."""

    scale: Float32  # (heads * width,)
    shift: Float32  # (heads * width,)


Frames = Mapping[str, KeyFrame]  # by the attention's name; none: its keys are as they were


def merged(canonical: Canonical, count: int, frames: Frames | None = None) -> Canonical:
    """The model with `count` tokens merged in each block, or the very same where `count` is 0.

    A last block that is computed for the prefix alone has nothing left to merge.

    Args:
        canonical: left unchanged; its keys must have their bias.
        count: tokens that become part of another, in each block.
        frames: of each attention whose keys were folded.

    Raises:
        UsageError: a count below 0, or more than some block has pairs.
        ContractError: no plain ViT, or one that reads its tokens one by one.
    """
    if count < 0:
        raise UsageError(f"--merge-tokens must be at least 0, got {count}")
    if count == 0:
        return canonical
    found = _check_mergeable(canonical)
    blocks = [each for each in composites(canonical.model.graph, ATTENTION) if _merges(each)]
    most = _most_merged(found, len(blocks))
    if count > most:
        raise UsageError(
            f"--merge-tokens {count} is more than {canonical.name} has to merge: its {found.tokens} tokens "
            f"last {len(blocks)} blocks with at most {most}"
        )
    copy = dataclasses.replace(canonical, model=canonical.model.clone())
    left = _Merging(copy, found, count, frames or {}).run()
    return dataclasses.replace(copy, merging=Merging(count, found.tokens, left))


def _most_merged(found: Description, blocks: int) -> int:
    """The largest count with which the last of the blocks that merge has as many pairs."""
    free = found.tokens - found.prefix_tokens
    return (
        free // (blocks + 1) if blocks else 0
    )  # half of what is left: count <= (free - (blocks - 1) count) / 2


def _check_mergeable(canonical: Canonical) -> Description:
    """Refuse a model whose tokens cannot merge, in a line.

    Raises:
        ContractError: says what it has.
    """
    found, name = canonical.description, canonical.name

    def refuse(what: str) -> NoReturn:
        raise ContractError(f"{name} {what}: {_ELSE}")

    if found is None:
        refuse(f"is no canonical ViT, so that its tokens cannot be merged ({canonical.refusal})")
    if is_dense(canonical):
        refuse("makes maps of the whole grid of patches, of which merging leaves none")
    if len(found.stages) > 1:
        refuse("merges its patches itself, window by window, and needs their grid for it")
    for attention in composites(canonical.model.graph, ATTENTION):
        if integer(attention, "windows", 1) > 1:
            refuse("attends within windows of its grid of patches, of which merging leaves none")
        if attention_bias(attention) is not None:
            refuse("adds to each pair of places what it learned of them, and merged tokens have no place")
        if any(is_composite(node, ROTARY) for node in by_head(attention.inputs[1])[0]):
            refuse("turns queries and keys by their places in each block, and merged tokens have no place")
    return found


def _merges(attention: ir.Node) -> bool:
    """Whether an attention is a block's, and computes every token."""
    queries, keys = static_shape(attention.inputs[0]), static_shape(attention.inputs[1])
    return (attention.name or "").startswith("blocks.") and queries == keys


class _Merging:
    """Goes through the graph once: what is behind a merge has fewer rows, and knows their sizes."""

    def __init__(self, canonical: Canonical, found: Description, count: int, frames: Frames) -> None:
        self.canonical, self.found, self.count, self.frames = canonical, found, count, frames
        self.graph = canonical.model.graph
        self.sizes: dict[ir.Value, ir.Value] = {}  # of a value whose rows are merged tokens
        self.alike: dict[str, ir.Value] = {}  # by the block's name
        self.left: list[int] = []

    def run(self) -> tuple[int, ...]:
        self.check_prefix_alone()
        for node in list(self.graph):
            sizes = self.follow(node)
            if is_composite(node, ATTENTION):
                self.attention(node)
            elif is_composite(node, MEAN) and sizes is not None:
                node.resize_inputs(2)
                node.replace_input_with(1, sizes)
            elif (node.name or "").endswith(".add1"):
                self.merge(node)
        return tuple(self.left)

    def check_prefix_alone(self) -> None:
        """Refuse a model that reads merged tokens one by one: its answers are of places."""
        for node in composites(self.graph, SELECT):
            stop = integer(node, "stop")
            rows = (static_shape(node.inputs[0]) or (0,))[0]
            every = integer(node, "start") <= self.found.prefix_tokens and stop == rows
            if stop > self.found.prefix_tokens and not every:
                self.refuse(f"reads tokens {integer(node, 'start')}..{stop} by their places")
        if any((static_shape(value) or (0,))[0] > 1 for value in self.graph.outputs):
            self.refuse("gives its tokens one by one")

    def refuse(self, what: str) -> NoReturn:
        raise ContractError(f"{self.canonical.name} {what}, and merging leaves no places: {_ELSE}")

    def follow(self, node: ir.Node) -> ir.Value | None:
        """Give a node behind a merge its number of rows; the sizes of those that it reads."""
        found = [self.sizes[value] for value in node.inputs if value is not None and value in self.sizes]
        if not found:
            return None
        if not (
            any(is_composite(node, kind) for kind in _FOLLOWS)
            or (any(is_op(node, kind) for kind in TOKENWISE) and not is_op(node, "Reshape"))
        ):
            self.refuse(f"has {node.op_type} ({node.name}) behind its blocks")
        sizes, rows = found[0], (static_shape(node.inputs[0]) or (0,))[0]
        if is_composite(node, SELECT):
            self.select(node, sizes, rows)
            return None
        if is_composite(node, MEAN):
            return sizes
        if is_composite(node, ATTENTION) and node.inputs[0] not in self.sizes:
            return sizes  # of its queries none was merged
        for value in node.outputs:
            typed(value, (rows, (static_shape(value) or (0, 0))[1]))
            self.sizes[value] = sizes
        return sizes

    def select(self, node: ir.Node, sizes: ir.Value, rows: int) -> None:
        """The prefix, whose rows are as ever; or all behind it, which are fewer."""
        if integer(node, "stop") <= self.found.prefix_tokens:
            return
        node.attributes["stop"] = ir.AttrInt64("stop", rows)
        start = integer(node, "start")
        made, columns = node.outputs[0], (static_shape(node.outputs[0]) or (0, 0))[1]
        typed(made, (rows - start, columns))
        own = _node(SELECT, [sizes], f"{node.name}.sizes", {"start": start, "stop": rows})
        self.graph.insert_before(node, own)
        self.sizes[made] = typed(own.outputs[0], (rows - start, 1))

    def attention(self, node: ir.Node) -> None:
        """Scores take the sizes of the keys; of a block that merges, its keys' mean comes along."""
        keys = node.inputs[1]
        sizes = None if keys is None else self.sizes.get(keys)
        merges = _merges(node)
        if sizes is None and not merges:
            return
        frame = self.frames.get(str(node.name)) if merges else None
        rows, columns = static_shape(keys) or (0, 0)
        node.resize_inputs(6)
        node.replace_input_with(4, sizes)
        if merges:
            node.replace_input_with(5, None if frame is None else self.constant(frame, f"{node.name}.frame"))
            node.resize_outputs(2)
            node.outputs[1].name = f"{node.name}.alike"
            made = typed(node.outputs[1], (rows, columns // integer(node, "heads")))
            self.alike[str(node.name).removesuffix(".attention")] = made

    def constant(self, frame: KeyFrame, name: str) -> ir.Value:
        """A frame as a constant (2, heads * width)."""
        array = np.stack([frame.scale, frame.shift]).astype(np.float32)
        return stored(self.graph, array, name)

    def merge(self, added: ir.Node) -> None:
        """Merge the tokens of the stream between a block's attention and its MLP."""
        block, stream = str(added.name).removesuffix(".add1"), added.outputs[0]
        alike = self.alike.get(block)
        if alike is None:
            return
        (rows, columns), sizes = static_shape(stream) or (0, 0), self.sizes.get(stream)
        readers = list(stream.uses())
        attributes = {"count": self.count, "prefix": self.found.prefix_tokens}
        node = _node(MERGE, [stream, alike, sizes], f"{block}.merged", attributes, outputs=2)
        self.graph.insert_after(added, node)
        made, counted = node.outputs
        typed(made, (rows - self.count, columns))
        self.sizes[made] = typed(counted, (rows - self.count, 1))
        self.left.append(rows - self.count)
        for use in readers:
            use.node.replace_input_with(use.idx, made)


def _node(
    kind: str, inputs: list[ir.Value | None], name: str, attributes: Mapping[str, int], outputs: int = 1
) -> ir.Node:
    """A composite."""
    made = [ir.AttrInt64(key, value) for key, value in attributes.items()]
    node = ir.Node(DOMAIN, kind, inputs, made, num_outputs=outputs, name=name, version=1)
    for place, value in enumerate(node.outputs):
        value.name = f"{name}.{place}"
    return node
