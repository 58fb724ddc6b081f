"""What a node of the canonical graph says of itself that its lowering needs: sizes, and who reads it."""

import onnx_ir as ir

from vit_edge.host.lower.attention import Heads
from vit_edge.host.lower.embed import Patches
from vit_edge.host.rewrite.composites import (
    ATTENTION,
    HEAD_NORM,
    HEAD_UNIT,
    MEAN,
    PERMUTE,
    ROTARY,
    SELECT,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.values import integer, integers, static_shape
from vit_edge.spec import GraphStyle


def joins_rows(node: ir.Node) -> bool:
    """Whether a node makes longer rows of several, as merging patches does."""
    shapes = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return is_op(node, "Reshape") and all(shape is not None and len(shape) == 2 for shape in shapes)


def heads_of(node: ir.Node) -> Heads:
    """The sizes of an Attention composite."""
    queries, keys = static_shape(node.inputs[0]) or (0, 0), static_shape(node.inputs[1]) or (0, 0)
    count, windows = integer(node, "heads"), integer(node, "windows", 1)
    return Heads(count, keys[1] // count, queries[0] // windows, keys[0] // windows, windows)


def serves_attention(node: ir.Node) -> bool:
    """Whether attentions alone read what a node makes, directly or behind what treats each head by itself."""
    readers = [use.node for output in node.outputs for use in output.uses()]
    return bool(readers) and all(
        serves_attention(reader) if is_by_head(reader) else is_composite(reader, ATTENTION)
        for reader in readers
    )


def is_by_head(node: ir.Node) -> bool:
    """Whether a node treats each head by itself; it is written in head order, with its attention."""
    return any(is_composite(node, kind) for kind in (ROTARY, HEAD_NORM, HEAD_UNIT))


def patches_of(node: ir.Node) -> Patches:
    """The geometry of an Embed composite."""
    _, channels, height, width = static_shape(node.inputs[0]) or (0, 0, 0, 0)
    patch = integers(node, "patch")
    dim = (static_shape(node.outputs[0]) or (0, 0))[1]
    return Patches(
        height // patch[0], width // patch[1], patch[0], patch[1], channels, integer(node, "prefix"), dim
    )


def is_packed_split(node: ir.Node) -> bool:
    """A Split whose parts only attentions read; it is written in head order with them."""
    return is_op(node, "Split") and serves_attention(node)


def images_apart(node: ir.Node, style: GraphStyle) -> tuple[int, ...]:
    """(rows, width) per image of a LayerNormalization that keeps images apart; () of anything else.

    Compilers fuse a QuantizeLinear into it only where its input has a batch dimension. And where rows of
    an image are taken from it, it would stand in front of a Reshape that brings the images back: through
    that OpenVINO moves the scale of the normalisation, and fails where the batch is dynamic.
    """
    if not is_op(node, "LayerNormalization"):
        return ()
    readers = [use.node for output in node.outputs for use in output.uses()]
    by_image = any(is_composite(reader, kind) for reader in readers for kind in (SELECT, MEAN, PERMUTE))
    if style is not GraphStyle.COMPILER and not by_image:
        return ()
    shape = static_shape(node.inputs[0]) or ()
    return shape if len(shape) == 2 and shape[0] > 1 and len(node.outputs) == 1 else ()
