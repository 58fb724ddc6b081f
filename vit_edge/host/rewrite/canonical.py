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
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.constants import fold_constants
from vit_edge.host.rewrite.contract import describe
from vit_edge.host.rewrite.description import Description
from vit_edge.host.rewrite.order import STAGES
from vit_edge.host.rewrite.prepare import prepare
from vit_edge.host.rewrite.rule import Outcome, Rule, apply_rule, register_constants
from vit_edge.host.rewrite.rules.drop_key_bias import DropKeyBias
from vit_edge.runtime.steps import explained
from vit_edge.spec import EMBEDDING, LOGITS

# A rule can make room for an earlier one, so each stage repeats until nothing fires. Three rounds are usual;
# SinkSelect needs one per operator of the last block.
MOST_ROUNDS = 40

_LARGEST_SHARED = 2**14  # numbers of a table that several nodes may have, each its own copy

_EXPORT_AGAIN = "export it again, with another opset or exporter"


@dataclasses.dataclass(frozen=True)
class Merging:
    """Tokens that become part of others, which no source has and somebody asked for."""

    count: int
    """In each block."""
    of: int
    """Tokens that the model has."""
    tokens: tuple[int, ...]
    """That are left behind each block that merges."""

    def __str__(self) -> str:
        """Where it leads."""
        blocks = len(self.tokens)
        return f"{self.count} tokens merge in each of {blocks} blocks: {self.of} become {self.tokens[-1]}"


@dataclasses.dataclass(frozen=True)
class Canonical:
    """A model as composites, for one image, and what was found and done."""

    name: str
    model: ir.Model
    outcomes: tuple[Outcome, ...]  # one per rule, in order
    description: Description | None  # None where the contract did not hold and that was allowed
    refusal: str | None  # why it did not hold
    merging: Merging | None = None  # None: every token goes all the way

    @property
    def embeds(self) -> bool:
        """Whether it gives one embedding and no logits, which the name of its output says."""
        return [value.name for value in self.model.graph.outputs] == [EMBEDDING]


def canonicalise(
    model: onnx.ModelProto, name: str, *, allow_uncanonical: bool = False, key_bias: bool = False
) -> Canonical:
    """The canonical form of an ONNX image classifier.

    Args:
        model: the classifier, one float32 image input (N, C, H, W); left unchanged.
        name: how errors call it.
        allow_uncanonical: return what was recognised instead of raising where the contract does not hold.
        key_bias: leave the keys their bias. No answer depends on it, but which tokens are alike does.

    Raises:
        ModelError: the file is no image classifier of one fixed size.
        ContractError: the graph is not a canonical ViT; names the block and what was found.
    """
    with explained(name, "preparing the graph", _EXPORT_AGAIN):
        prepared = prepare(model, name)
    left_out = (DropKeyBias,) if key_bias else ()
    stages = [tuple(rule for rule in stage if rule not in left_out) for stage in STAGES]
    outcomes = tuple(outcome for stage in stages for outcome in _until_stable(stage, prepared, name))
    register_constants(prepared.graph)
    _name_convolutions(prepared.graph)
    try:
        description = describe(prepared, name, outcomes)
    except ContractError as error:
        if not allow_uncanonical:
            raise
        return Canonical(name, prepared, outcomes, None, str(error))
    return Canonical(name, prepared, outcomes, description, None)


def is_dense(canonical: Canonical) -> bool:
    """Whether the model gives maps, not one row of answers."""
    return any(len(value.shape or ()) > 2 for value in canonical.model.graph.outputs)


def output_names(canonical: Canonical) -> tuple[str, ...]:
    """What the outputs of its files are called: `logits` of a classifier, else as the model calls them."""
    if is_dense(canonical) or canonical.embeds:
        return tuple(str(value.name) for value in canonical.model.graph.outputs)
    return (LOGITS,)


def float_outputs(canonical: Canonical) -> tuple[str, ...]:
    """Those of them that hold floating-point numbers, which come first."""
    numbers = [
        value.dtype is not None and value.dtype.is_floating_point() for value in canonical.model.graph.outputs
    ]
    return tuple(name for name, is_float in zip(output_names(canonical), numbers, strict=False) if is_float)


def _name_convolutions(graph: ir.Graph) -> None:
    """`conv.0` and so on, by which calibration, quantization and reports call them."""
    found = [node for node in graph if is_op(node, "Conv") or is_op(node, "ConvTranspose")]
    for place, node in enumerate(found):
        node.name = f"conv.{place}"


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
