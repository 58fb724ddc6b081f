"""Normalisation of the pixels in front of the patch embedding goes into its weight and table.

Exact, as no patch is padded: (s x + t) W = x (s W) + t W, with s and t one number per channel.
"""

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.affine import ChannelAffine, affine_of
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import embed, integer, integers, linear_parts


class FoldNormalisation(NodeRule[ChannelAffine]):
    """Embed(s * image + t, W, table) -> Embed(image, s W, table + t W), the table's rows of patches alone."""

    ROOTS: ClassVar[tuple[str, ...]] = ("vit_edge::Embed",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,2,1,2] x) => (float[3,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[3,2] table = {1., 2., 3., 4., 5., 6.}, float c = {255.0},
         float[2,1,1] m = {0.5, 0.25}, float[1,2,1,1] s = {0.5, 0.2}, float[1,2,1,2] a, float[1,2,1,2] b,
         float[1,2,1,2] d> {
            a = Div(x, c)
            b = Sub(a, m)
            d = Div(b, s)
            y = vit_edge.Embed<patch=[1, 1], prefix=1>(d, w, table)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,2,1,2] x) => (float[2,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[2,2] table = {1., 2., 3., 4.},
         float[1,1,1,2] m = {0.5, 0.25}, float[1,2,1,2] a> {
            a = Sub(x, m)
            y = vit_edge.Embed<patch=[1, 1], prefix=0>(a, w, table)
        }"""

    def find(self, node: ir.Node) -> ChannelAffine | Declined:
        """What scales and shifts the image, by one number per channel and by nothing else."""
        affine = affine_of(node.inputs[0])
        if affine is None:
            return Declined(
                "what stands between the image and its patches is no scaling and shifting of its channels"
            )
        if affine.image is node.inputs[0]:
            return Declined("the patches are those of the image itself")
        return affine

    def replace(self, op: Any, node: ir.Node, found: ChannelAffine) -> ir.Value:
        """Scale the weight's rows, which run channel first, and add what the shift makes of them."""
        _, weight, table = linear_parts(node)
        patch, prefix = integers(node, "patch"), integer(node, "prefix")
        per_row = [np.repeat(each, patch[0] * patch[1]) for each in (found.scale, found.shift)]
        moved = required(table, node).astype(np.float64)
        moved[prefix:] += per_row[1] @ weight.astype(np.float64)
        scaled = weight * per_row[0][:, None]
        return embed(op, found.image, scaled, moved, (patch[0], patch[1]), prefix)
