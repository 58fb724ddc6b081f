"""What a rewrite rule is: what it looks for, what it puts in its place, and two graphs as examples."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import RewriteRule, RewriteRuleSet
from onnxscript.rewriter.pattern import MatchResult

from vit_edge.host.rewrite.composites import is_op

Found = TypeVar("Found")
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Declined:
    """Why a rule leaves a node alone."""

    reason: str


class Rule(abc.ABC):
    """One lossless rewrite: a `NodeRule`, or a `PatternRule` where a fixed pattern says it better.

    A subclass states `find`, which reads the graph and returns what it found there or `Declined` with the
    reason, and `replace`, which makes the new nodes of what was found and reads nothing a second time. It
    carries two graphs as ONNX text: one on which it fires, and one on which it must not.
    """

    FIRES: ClassVar[str]
    HOLDS: ClassVar[str]
    COMMUTES: ClassVar[bool] = False  # also match with the operands of Add and Mul exchanged

    def __init__(self) -> None:
        self.name = type(self).__name__
        self.declined: list[str] = []

    @abc.abstractmethod
    def patterns(self) -> list[Callable[..., Any]]:
        """Every spelling of what onnxscript's matcher looks for."""

    @abc.abstractmethod
    def can_match(self, graph: ir.Graph) -> bool:
        """Whether a search is worth its time: each spelling of a pattern is tried on each node."""

    @abc.abstractmethod
    def rewrite(self, op: Any, **bindings: ir.Value) -> ir.Value | MatchResult:
        """The hook of onnxscript: the value put in place of the match's, or why the match stays."""

    def _left_alone(self, declined: Declined) -> MatchResult:
        self.declined.append(declined.reason)
        return MatchResult().fail(declined.reason)


class NodeRule(Rule, Generic[Found]):
    """A rule that starts from one node of a named operator and reads its surroundings itself."""

    ROOTS: ClassVar[tuple[str, ...]]  # operators, "domain::name" for those outside the default domain

    @abc.abstractmethod
    def find(self, node: ir.Node) -> Found | Declined:
        """What `replace` needs to know of a node that may be rewritten, else the reason why not."""

    @abc.abstractmethod
    def replace(self, op: Any, node: ir.Node, found: Found) -> ir.Value:
        """The value that takes the place of the node's (only) output; `op.Name(…)` makes a node."""

    def patterns(self) -> list[Callable[..., Any]]:
        """One single-node pattern per operator in ROOTS."""
        return [_root_pattern(*_split_domain(root)) for root in self.ROOTS]

    def can_match(self, graph: ir.Graph) -> bool:
        """Whether a root is there."""
        roots = [_split_domain(root) for root in self.ROOTS]
        return any(is_op(node, name, domain) for node in graph for domain, name in roots)

    def rewrite(self, op: Any, **bindings: ir.Value) -> ir.Value | MatchResult:
        """Find, then replace."""
        node = producer_of(bindings["root"])
        found = self.find(node)
        return self._left_alone(found) if isinstance(found, Declined) else self.replace(op, node, found)


class PatternRule(Rule, Generic[Found]):
    """A rule whose subject is a small graph of fixed operators: `patterns` in onnxscript's pattern language.

    `find` and `replace` get the values that the pattern names, by name.
    """

    NEEDS: ClassVar[str]  # an operator of the pattern that few graphs have: without it, do not search

    @abc.abstractmethod
    def find(self, *args: Any, **bindings: Any) -> Found | Declined:
        """What `replace` needs to know of a match that may be rewritten, else the reason why not."""

    @abc.abstractmethod
    def replace(self, op: Any, found: Found) -> ir.Value:
        """The value that takes the place of the match's output; `op.Name(…)` makes a node."""

    def can_match(self, graph: ir.Graph) -> bool:
        """Whether the rare operator is there."""
        return any(is_op(node, self.NEEDS) for node in graph)

    def rewrite(self, op: Any, **bindings: ir.Value) -> ir.Value | MatchResult:
        """Find, then replace."""
        found = self.find(**bindings)
        return self._left_alone(found) if isinstance(found, Declined) else self.replace(op, found)


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


def required(value: Value | None, node: ir.Node) -> Value:
    """What the operator's definition, or an earlier rule, says that the node always has."""
    if value is None:
        raise ValueError(f"{node.name}: {node.op_type} lacks an operand, a constant or a shape")
    return value


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
    compiled = [RewriteRule(pattern, rule.rewrite, name=rule.name) for pattern in rule.patterns()]
    fired = RewriteRuleSet(compiled, commute=kind.COMMUTES).apply_to_model(model)
    if fired:
        register_constants(model.graph)
        RemoveUnusedNodesPass()(model)
    return Outcome(rule.name, fired, tuple(dict.fromkeys(rule.declined)))
