"""What a rewrite rule is: onnxscript's rule class, plus its examples and the reasons it declined."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import RewriteRule, RewriteRuleSet
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase

from vit_edge.host.rewrite.composites import is_op


class Rule(RewriteRuleClassBase):
    """One lossless rewrite.

    A subclass states `pattern`, `accept` (None, or why it declines) and `rewrite`, keeps no state between
    them, and carries two graphs as ONNX text: one on which it fires, and one on which it must not.
    """

    FIRES: ClassVar[str]
    HOLDS: ClassVar[str]
    COMMUTES: ClassVar[bool] = False  # also match with the operands of Add and Mul exchanged
    NEEDS: ClassVar[str | None] = (
        None  # an operator of the pattern that few graphs have: without it, do not search
    )

    def __init__(self) -> None:
        super().__init__(type(self).__name__)
        self.declined: list[str] = []

    def patterns(self) -> list[Callable[..., Any]]:
        """Every spelling of the pattern; most rules have one."""
        return [self.pattern]

    def can_match(self, graph: ir.Graph) -> bool:
        """Whether a search is worth its time: each spelling of a pattern is tried on each node."""
        return self.NEEDS is None or any(is_op(node, self.NEEDS) for node in graph)

    def accept(self, *args: Any, **bindings: Any) -> str | None:
        """None where the match may be rewritten, else the reason why not."""
        raise NotImplementedError

    def check(self, op: Any, *args: Any, **bindings: Any) -> MatchResult:
        """The hook of onnxscript; keeps the reason of a refusal."""
        del op
        result = MatchResult()
        reason = self.accept(*args, **bindings)
        if reason is not None:
            self.declined.append(reason)
            result.fail(reason)
        return result


class NodeRule(Rule):
    """A rule that starts from one node of a named operator and reads its surroundings itself.

    For what a fixed pattern cannot say, such as chains of any length. `accept` and `rewrite` get the node.
    """

    ROOTS: ClassVar[tuple[str, ...]]  # operators, "domain::name" for those outside the default domain

    def pattern(self, op: Any) -> Any:
        """Unused: `patterns` makes one per root."""
        raise NotImplementedError

    def patterns(self) -> list[Callable[..., Any]]:
        """One single-node pattern per operator in ROOTS."""
        return [_root_pattern(*_split_domain(root)) for root in self.ROOTS]

    def can_match(self, graph: ir.Graph) -> bool:
        """Whether a root is there."""
        roots = [_split_domain(root) for root in self.ROOTS]
        return any(is_op(node, name, domain) for node in graph for domain, name in roots)

    def accept(self, root: ir.Value) -> str | None:
        """Ask `accept_node`."""
        return self.accept_node(producer_of(root))

    def rewrite(self, op: Any, root: ir.Value) -> ir.Value:
        """Ask `rewrite_node`."""
        return self.rewrite_node(op, producer_of(root))

    def accept_node(self, node: ir.Node) -> str | None:
        """None where the node may be rewritten, else the reason why not."""
        raise NotImplementedError

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """The value that takes the place of the node's (only) output."""
        raise NotImplementedError


def _split_domain(root: str) -> tuple[str, str]:
    domain, _, name = root.rpartition("::")
    return domain, name


def _root_pattern(domain: str, name: str) -> Callable[..., Any]:
    def pattern(op: Any) -> Any:
        return getattr(op, name)(_allow_other_inputs=True, _domain=domain, _outputs=["root"])

    return pattern


def producer_of(value: ir.Value) -> ir.Node:
    """The node that makes a value of which a pattern says that a node makes it."""
    node = value.producer()
    if node is None:
        raise ValueError(f"{value.name} is made by no node")
    return node


Found = TypeVar("Found")


def matched(found: Found | None, node: ir.Node) -> Found:
    """What `accept_node` found, found again by `rewrite_node`: the two share no state."""
    if found is None:
        raise ValueError(f"{node.name}: rewrite called on a node that was not accepted")
    return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one rule did to one graph."""

    rule: str
    fired: int
    declined: tuple[str, ...]


def register_constants(graph: ir.Graph) -> None:
    """Make every constant that a rewrite read an initializer of the graph, each name once.

    Two rewrites may make equal constants, whose names are equal then (`values.constant`); the rewriter keeps
    only the later one in the graph's table, or renames it without entering it.
    """
    for node in graph:
        for position, value in enumerate(node.inputs):
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            registered = graph.initializers.get(value.name or "")
            if registered is None:
                graph.register_initializer(value)
            elif registered is not value:
                node.replace_input_with(position, registered)


def apply_rule(kind: type[Rule], model: ir.Model) -> Outcome:
    """Apply one rule wherever it matches, in place."""
    rule = kind()
    if not rule.can_match(model.graph):
        return Outcome(rule.name, 0, ())
    compiled = [RewriteRule(pattern, rule.rewrite, rule.check, name=rule.name) for pattern in rule.patterns()]
    fired = RewriteRuleSet(compiled, commute=kind.COMMUTES).apply_to_model(model)
    if fired:
        register_constants(model.graph)
        RemoveUnusedNodesPass()(model)
    return Outcome(rule.name, fired, tuple(dict.fromkeys(rule.declined)))
