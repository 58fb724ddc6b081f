"""Raise and fold a model to the canonical ViT graph, and assert that it is one."""

import dataclasses
from collections.abc import Iterable

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
)

from vit_edge.errors import ContractError, ModelError
from vit_edge.host.rewrite.constants import fold_constants
from vit_edge.host.rewrite.contract import describe
from vit_edge.host.rewrite.description import Description
from vit_edge.host.rewrite.order import STAGES
from vit_edge.host.rewrite.prepare import prepare
from vit_edge.host.rewrite.rule import Outcome, Rule, apply_rule, register_constants
from vit_edge.runtime.steps import explained

# A rule can make room for an earlier one, so each stage repeats until nothing fires. Three rounds are usual;
# SinkSelect needs one per operator of the last block.
MOST_ROUNDS = 40

_LARGEST_SHARED = 2**14  # numbers of a table that several nodes may have, each its own copy

_EXPORT_AGAIN = "export it again, with another opset or exporter"


@dataclasses.dataclass(frozen=True)
class Canonical:
    """A model as composites, for one image, and what was found and done."""

    name: str
    model: ir.Model
    outcomes: tuple[Outcome, ...]  # one per rule, in order
    description: Description | None  # None where the contract did not hold and that was allowed
    refusal: str | None  # why it did not hold


def canonicalise(model: onnx.ModelProto, name: str, *, allow_uncanonical: bool = False) -> Canonical:
    """The canonical form of an ONNX image classifier.

    Args:
        model: the classifier, one float32 image input (N, C, H, W); left unchanged.
        name: how errors call it.
        allow_uncanonical: return what was recognised instead of raising where the contract does not hold.

    Raises:
        ModelError: the file is no image classifier of one fixed size.
        ContractError: the graph is not a canonical ViT; names the block and what was found.
    """
    with explained(name, "preparing the graph", _EXPORT_AGAIN):
        prepared = prepare(model, name)
    outcomes = tuple(outcome for stage in STAGES for outcome in _until_stable(stage, prepared, name))
    register_constants(prepared.graph)
    try:
        description = describe(prepared, name, outcomes)
    except ContractError as error:
        if not allow_uncanonical:
            raise
        return Canonical(name, prepared, outcomes, None, str(error))
    return Canonical(name, prepared, outcomes, description, None)


def _until_stable(rules: tuple[type[Rule], ...], model: ir.Model, name: str) -> list[Outcome]:
    rounds: list[list[Outcome]] = []
    for _ in range(MOST_ROUNDS):
        rounds.append([_applied(rule, model, name) for rule in rules])
        with explained(name, "folding constants", _EXPORT_AGAIN):
            fold_constants(model)
        if not any(outcome.fired for outcome in rounds[-1]):
            return [_sum(outcomes) for outcomes in zip(*rounds, strict=True)]
    busy = ", ".join(outcome.rule for outcome in rounds[-1] if outcome.fired)
    raise ModelError(f"{name}: the rewrite rules {busy} keep firing; please report this model")


def _applied(rule: type[Rule], model: ir.Model, name: str) -> Outcome:
    with explained(name, f"the rewrite rule {rule.__name__}", "please report this model"):
        outcome = apply_rule(rule, model)
    if outcome.fired:
        IdentityEliminationPass()(model)
        DeduplicateInitializersPass(_LARGEST_SHARED)(model)
        CommonSubexpressionEliminationPass()(model)
    return outcome


def _sum(outcomes: Iterable[Outcome]) -> Outcome:
    """One rule's outcomes over all rounds; the reasons to decline are those of the last."""
    every = list(outcomes)
    return Outcome(every[0].rule, sum(outcome.fired for outcome in every), every[-1].declined)
