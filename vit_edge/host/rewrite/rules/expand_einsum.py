"""Einsum of two operands becomes the Transpose and MatMul that it stands for; own code writes attention so.

Source: ONNX Einsum. Exact: one label is summed over, the others are rows, columns or a batch of the product.
"""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import static_shape, transpose, typed


class _Product(NamedTuple):
    left: tuple[int, ...]  # the order of the left operand's axes: batch, rows, summed
    right: tuple[int, ...]  # batch, summed, columns
    shape: tuple[int, ...]  # of the product: batch, rows, columns
    result: tuple[int, ...]  # the order of the product's axes that the equation asks for


class ExpandEinsum(NodeRule[_Product]):
    """Einsum(x, z) -> Transpose(MatMul(Transpose(x), Transpose(z)))."""

    ROOTS = ("Einsum",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2,4] q, float[1,5,2,4] k) => (float[1,2,3,5] y) {
            y = Einsum<equation="bihd, bjhd -> bhij">(q, k)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2,4] q, float[1,5,2,4] k) => (float[1,3,5] y) {
            y = Einsum<equation="bihd,bjhd->bij">(q, k)
        }"""

    def find(self, node: ir.Node) -> _Product | Declined:
        """How the axes of both operands and of the result lie in one product of matrices."""
        terms = _terms(node)
        if terms is None:
            return Declined("the equation is not one of two operands with its labels written out")
        left, right, result = terms
        sizes = _sizes((left, node.inputs[0]), (right, node.inputs[1]))
        if sizes is None:
            return Declined("a label has no static size, or two")
        batch = "".join(label for label in result if label in left and label in right)
        rows = "".join(label for label in result if label in left and label not in right)
        columns = "".join(label for label in result if label in right and label not in left)
        summed = "".join(label for label in left if label not in result)
        if set(left) != {*batch, *rows, *summed} or set(right) != {*batch, *summed, *columns}:
            return Declined("a label is summed over in one operand alone")
        if not (len(summed) == len(columns) == 1 and (len(rows) == 1 or (rows and not batch))):
            return Declined("the equation is not a single product of matrices")
        made = batch + rows + columns
        return _Product(
            _order(left, batch + rows + summed),
            _order(right, batch + summed + columns),
            tuple(sizes[label] for label in made),
            _order(made, result),
        )

    def replace(self, op: Any, node: ir.Node, found: _Product) -> ir.Value:
        """Bring the summed axes together, multiply, and restore the order."""
        left, right = (required(value, node) for value in node.inputs)
        product = op.MatMul(_arranged(op, left, found.left), _arranged(op, right, found.right))
        return _arranged(op, typed(product, found.shape), found.result)


def _terms(node: ir.Node) -> tuple[str, str, str] | None:
    """The labels of (left, right, result), or None for any other equation."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    operands, arrow, result = equation.partition("->")
    terms = (*operands.split(","), result)
    plain = all(term.isalpha() and len(set(term)) == len(term) for term in terms)
    return (terms[0], terms[1], terms[2]) if arrow and plain and len(terms) == 3 else None


def _sizes(*operands: tuple[str, ir.Value | None]) -> dict[str, int] | None:
    """The size of each label; None where a shape is not known or the operands disagree."""
    sizes: dict[str, int] = {}
    for term, value in operands:
        shape = static_shape(value)
        if shape is None or len(shape) != len(term):
            return None
        if any(sizes.setdefault(label, size) != size for label, size in zip(term, shape, strict=True)):
            return None
    return sizes


def _order(given: str, wanted: str) -> tuple[int, ...]:
    return tuple(given.index(label) for label in wanted)


def _arranged(op: Any, value: ir.Value, order: tuple[int, ...]) -> ir.Value:
    return value if order == tuple(range(len(order))) else transpose(op, value, order)
