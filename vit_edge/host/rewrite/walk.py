"""Steps through a graph of composites, and the refusal that names where one stood."""

from typing import NoReturn

import onnx_ir as ir

from vit_edge.errors import ContractError
from vit_edge.host.rewrite.composites import LINEAR, PERMUTE, SELECT, SWISH, is_composite, is_norm, is_op
from vit_edge.host.rewrite.rule import Outcome, producer_of
from vit_edge.host.rewrite.values import number, only_user, static_shape, users


class Walk:
    """Where in a graph one stands; every step that the contract does not allow is refused with that place."""

    def __init__(self, graph: ir.Graph, name: str, outcomes: tuple[Outcome, ...]) -> None:
        self.graph, self.name, self.outcomes = graph, name, outcomes
        self.where = "embedding"

    def behind(self, kind: str, value: ir.Value, name: str) -> ir.Value:
        """Behind the one node of a kind that alone reads a value, where there is one; else the value."""
        node = only_user(value)
        if node is None or not (is_op(node, kind) or is_composite(node, kind)):
            return value
        node.name = name
        return node.outputs[0]

    def behind_norm(self, value: ir.Value, name: str) -> ir.Value:
        """Behind the one normalization that alone reads a value, where there is one; else the value."""
        node = only_user(value)
        if node is None or not is_norm(node):
            return value
        node.name = name
        return node.outputs[0]

    def unselected(self, value: ir.Value | None) -> ir.Value | None:
        """The value from which rows were selected or put into another order, or the value itself."""
        while value is not None and (is_composite(value, SELECT) or is_composite(value, PERMUTE)):
            value = producer_of(value).inputs[0]
        return value

    def only(self, value: ir.Value, composite: str, expected: str) -> ir.Node:
        """The one composite of a kind that alone reads a value."""
        node = only_user(value)
        if node is None or not is_composite(node, composite):
            self.fail(f"expected {expected}, found {kinds_of(value)}")
        return node

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """(rows, columns) of a value."""
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
        """Refuse the graph for what was found here."""
        raise ContractError(f"{self.name} is not a canonical ViT: {self.where}: {what}")

    def next_linear(self, value: ir.Value) -> ir.Node | None:
        """The one Linear that stands next behind a value."""
        linears = [node for node in downstream(value) if is_composite(node, LINEAR)]
        return next((node for node in linears if not any(reads(node, other) for other in linears)), None)


def downstream(value: ir.Value) -> list[ir.Node]:
    """All nodes that depend on a value, each once."""
    reached: dict[ir.Node, None] = {}
    pending = [value]
    while pending:
        for node in users(pending.pop()):
            if node not in reached:
                reached[node] = None
                pending.extend(node.outputs)
    return list(reached)


def upstream(value: ir.Value) -> set[ir.Node]:
    """All nodes that a value is computed by."""
    reached: set[ir.Node] = set()
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is None or node in reached:
            continue
        reached.add(node)
        pending.extend(each.producer() for each in node.inputs if each is not None)
    return reached


def depends(value: ir.Value | None) -> bool:
    """Whether a value is computed from the image."""
    return value is not None and value.producer() is not None


def reads(node: ir.Node, other: ir.Node) -> bool:
    """Whether a node depends on what another makes."""
    return node is not other and node in downstream(other.outputs[0])


def activation_of(node: ir.Node) -> str:
    """What an activation is called in a description."""
    if is_composite(node, SWISH):
        alpha = number(node, "alpha")
        known = {1.0: "silu", 1.702: "quick_gelu"}
        return known.get(round(alpha, 4), f"swish({alpha:.4g})")
    attribute = node.attributes.get("approximate")
    tanh = attribute is not None and attribute.as_string() == "tanh"
    return "gelu_tanh" if tanh else node.op_type.lower()


def listed(found: set[int] | set[str]) -> str:
    """What differs, in order."""
    return " and ".join(sorted(str(item) for item in found))


def kind_of(node: ir.Node | None) -> str:
    """What to call a node in a refusal."""
    return "a graph input" if node is None else f"{node.op_type} ({node.name})"


def kinds_of(value: ir.Value) -> str:
    """What to call those that read a value."""
    return ", ".join(kind_of(_reader(node)) for node in users(value)) or "nothing"


def _reader(node: ir.Node) -> ir.Node:
    """What stands behind Reshapes, which say nothing to a reader."""
    while is_op(node, "Reshape") and (behind := only_user(node.outputs[0])) is not None:
        node = behind
    return node
