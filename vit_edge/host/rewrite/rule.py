"""What a rewrite rule is: onnxscript's rule class, plus its examples and the reasons it declined."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import RewriteRule, RewriteRuleSet
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase


class Rule(RewriteRuleClassBase):  # type: ignore[misc]  # onnxscript leaves this class untyped
    """One lossless rewrite.

    A subclass states `pattern`, `accept` (None, or why it declines) and `rewrite`, keeps no state between them,
    and carries two graphs as ONNX text: one on which it fires, and one on which it must not.
    """

    FIRES: ClassVar[str]
    HOLDS: ClassVar[str]
    COMMUTES: ClassVar[bool] = False  # also match with the operands of Add and Mul exchanged

    def __init__(self) -> None:
        super().__init__(type(self).__name__)
        self.declined: list[str] = []

    def patterns(self) -> list[Callable[..., Any]]:
        """Every spelling of the pattern; most rules have one."""
        return [self.pattern]

    def accept(self, **bindings: Any) -> str | None:
        """None where the match may be rewritten, else the reason why not."""
        raise NotImplementedError

    def check(self, context: Any, **bindings: Any) -> MatchResult:
        """onnxscript's hook; keeps the reason of a refusal."""
        del context
        result = MatchResult()
        reason = self.accept(**bindings)
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

    def accept(self, root: ir.Value) -> str | None:  # type: ignore[override]
        """Ask `accept_node`."""
        node = root.producer()
        return "no node" if node is None else self.accept_node(node)

    def rewrite(self, op: Any, root: ir.Value) -> Any:
        """Ask `rewrite_node`."""
        return self.rewrite_node(op, root.producer())

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


def apply_rule(kind: type[Rule], model: ir.Model) -> Outcome:
    """Apply one rule wherever it matches, in place."""
    rule = kind()
    compiled = [RewriteRule(pattern, rule.rewrite, rule.check, name=rule.name) for pattern in rule.patterns()]
    fired = RewriteRuleSet(compiled, commute=kind.COMMUTES).apply_to_model(model)
    if fired:
        RemoveUnusedNodesPass()(model)
    return Outcome(rule.name, fired, tuple(dict.fromkeys(rule.declined)))
