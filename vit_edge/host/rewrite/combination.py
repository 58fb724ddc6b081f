"""What a value is as a sum of a few scaled elements of one other value, found by running it on positions.

A rotation of queries and keys is x * cos + rotated(x) * sin, and every library writes `rotated` in its own
way: halves or neighbours exchanged, by Slice, Split, Gather, Neg, Concat, with prefix tokens cut off before
and joined again behind. All of it is linear in x, so it is run in numpy on positions and factors.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.layout import REORDERING, SELECTING, Indices, moved
from vit_edge.host.rewrite.values import constant_of, integer, static_shape

MOST_TERMS = 3  # more are no rotation
_MOST_NODES = 64  # of a chain that is worth running
_MOST_ELEMENTS = 2**25


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """`factor * source.flat[index]`; both have the shape of the value."""

    index: Indices
    factor: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """A value as the sum of terms."""

    source: ir.Value
    terms: tuple[Term, ...]


def combination(value: ir.Value | None) -> Combination | None:
    """The terms of a value, or None where it is no such sum of one source."""
    run = _Run()
    found = None if value is None else run.of(value)
    return found if found is not None and len(found.terms) <= MOST_TERMS else None


class _Run:
    def __init__(self) -> None:
        self.done: dict[ir.Value, Combination | None] = {}

    def of(self, value: ir.Value) -> Combination | None:
        if value not in self.done:
            if len(self.done) > _MOST_NODES:
                return None
            self.done[value] = None  # until it is known
            self.done[value] = self.made(value)
        return self.done[value]

    def made(self, value: ir.Value) -> Combination | None:
        node, shape = value.producer(), static_shape(value)
        if shape is None or int(np.prod(shape)) > _MOST_ELEMENTS:
            return None
        found = None if node is None else self.through(node, value, len(shape))
        if found is not None:
            return found
        index: Indices = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
        return Combination(value, (Term(index, np.ones(shape, np.float32)),))

    def through(self, node: ir.Node, value: ir.Value, rank: int) -> Combination | None:
        """By way of the node that makes a value; arithmetic on rows of tokens is a source, not a way."""
        if any(is_op(node, kind) for kind in (*REORDERING, *SELECTING)):
            return self.moved(node, value)
        if is_op(node, "Concat"):
            return self.joined(node)
        if rank > 2 and any(is_op(node, kind) for kind in ("Neg", "Mul", "Div")):
            return self.scaled(node, value)
        if rank > 2 and (is_op(node, "Add") or is_op(node, "Sub")):
            return self.added(node)
        return None

    def moved(self, node: ir.Node, value: ir.Value) -> Combination | None:
        inner = None if node.inputs[0] is None else self.of(node.inputs[0])
        if inner is None:
            return None
        output = next(i for i, each in enumerate(node.outputs) if each is value)
        terms = []
        for term in inner.terms:
            index, factor = moved(node, term.index, output), moved(node, term.factor, output)
            if index is None or factor is None:
                return None
            terms.append(Term(index, factor))
        return Combination(inner.source, tuple(terms))

    def scaled(self, node: ir.Node, value: ir.Value) -> Combination | None:
        """Times a constant of any shape that does not make the value larger."""
        if is_op(node, "Neg"):
            x: ir.Value | None = node.inputs[0]
            by: Array = np.asarray(-1.0, np.float32)
        else:
            sides = [node.inputs] if is_op(node, "Div") else [node.inputs, node.inputs[::-1]]
            pairs = [(one, constant_of(other)) for one, other in sides]
            x, array = next(((one, each) for one, each in pairs if each is not None), (None, None))
            if array is None:
                return None
            by = 1.0 / array if is_op(node, "Div") else array
        inner = None if x is None or static_shape(x) != static_shape(value) else self.of(x)
        if inner is None:
            return None
        terms = (Term(term.index, (term.factor * by).astype(np.float32)) for term in inner.terms)
        return Combination(inner.source, tuple(terms))

    def added(self, node: ir.Node) -> Combination | None:
        parts = self.parts(node)
        if parts is None or static_shape(node.inputs[0]) != static_shape(node.inputs[1]):
            return None
        sign = np.float32(-1 if is_op(node, "Sub") else 1)
        second = tuple(Term(term.index, term.factor * sign) for term in parts[1].terms)
        return Combination(parts[0].source, (*parts[0].terms, *second))

    def joined(self, node: ir.Node) -> Combination | None:
        parts = self.parts(node)
        if parts is None:
            return None
        axis, count = integer(node, "axis"), max(len(part.terms) for part in parts)
        padded = [_padded(part.terms, count) for part in parts]
        terms = (
            Term(
                np.concatenate([part[i].index for part in padded], axis=axis),
                np.concatenate([part[i].factor for part in padded], axis=axis),
            )
            for i in range(count)
        )
        return Combination(parts[0].source, tuple(terms))

    def parts(self, node: ir.Node) -> list[Combination] | None:
        """Of every operand, all of one source."""
        found = [None if value is None else self.of(value) for value in node.inputs]
        parts = [part for part in found if part is not None]
        same = len(parts) == len(found) and all(part.source is parts[0].source for part in parts)
        return parts if same and all(len(part.terms) <= MOST_TERMS for part in parts) else None


def _padded(terms: Sequence[Term], count: int) -> list[Term]:
    """With terms that add nothing."""
    nothing = Term(terms[0].index, np.zeros_like(terms[0].factor))
    return [*terms, *[nothing] * (count - len(terms))]
