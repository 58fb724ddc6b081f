"""From the canonical graph of a classifier to that of its embedder, exact in float32.

A classifier computes its last block only for the tokens that its head reads. Here all tokens go through it,
and the outputs are, for one image:

    cls_embedding (1, D)                  the class token behind the final normalization; only where the
                                          head reads that token by itself
    pooled_embedding (1, D)               the mean of the patch tokens behind the final normalization
    patch_features (1, rows, columns, D)  the patch tokens behind the final normalization, row by row;
                                          prefix tokens (class, distillation, registers) are left out

    tap_K (1, rows, columns, D)           of each block K that is asked for, from 0: the patch tokens as they
                                          leave it, not normalised

Where a model normalises the mean of its tokens instead of the tokens (`fc_norm` of timm), patch_features are
the tokens as they leave the last block, and pooled_embedding is their normalised mean. Where it has no final
normalization, nothing is normalised.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.errors import ContractError, UsageError
from vit_edge.host.embedder.reads import ancestors, read_ranges, rows_of
from vit_edge.host.initializers import stored
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import DOMAIN, EMBED, MEAN, SELECT, composites, is_composite, is_norm
from vit_edge.host.rewrite.values import constant_of, integer, static_shape, users
from vit_edge.spec import CLS_EMBEDDING, PATCH_FEATURES, POOLED_EMBEDDING, tap_name, tap_of


class NormPlace(enum.Enum):
    """What the final normalization acts on."""

    TOKENS = "tokens"
    MEAN = "mean"  # the mean of the tokens
    NONE = "none"  # there is none


@dataclasses.dataclass(frozen=True, eq=False)
class FinalNorm:
    """The normalization between the last block and the head."""

    place: NormPlace
    constants: tuple[Array, ...] = ()  # scale (D,), and bias (D,) where there is one
    attributes: Mapping[str, ir.Attr] = dataclasses.field(default_factory=dict)
    kind: str = "LayerNormalization"  # of the operator
    domain: str = ""

    @classmethod
    def of(cls, node: ir.Node, place: NormPlace) -> "FinalNorm":
        """That which a node is."""
        return cls(place, _constants(node), node.attributes, node.op_type, node.domain)


@dataclasses.dataclass(frozen=True)
class FeatureGraph:
    """The graph of an embedder."""

    canonical: Canonical  # its outputs are the embeddings, and behind them the logits of the classifier
    outputs: tuple[str, ...]  # names of the embeddings
    norm: FinalNorm
    last_block: str  # "blocks.11"
    pruned: bool  # whether the classifier computes the last block for few tokens only
    taps: tuple[int, ...] = ()  # blocks whose patches are among the outputs

    @property
    def whole(self) -> tuple[str, ...]:
        """The outputs that are of the last block."""
        return tuple(name for name in self.outputs if tap_of(name) is None)


def feature_graph(
    canonical: Canonical, norm: FinalNorm | None = None, taps: Sequence[int] = ()
) -> FeatureGraph:
    """The embedder's graph; the classifier's is left unchanged.

    Args:
        canonical: from `canonicalise`.
        norm: the final normalization, where quantization has folded that of `canonical` into the head.
        taps: blocks, from 0, whose patches are outputs, too.

    Raises:
        UsageError: there is no such block.
        ContractError: the model has no grid of patches, or several final normalizations.
    """
    found = canonical.description
    if found is None:
        raise ContractError(
            f"{canonical.name} has no patch grid to give embeddings of, as it is no canonical ViT "
            f"({canonical.refusal})"
        )
    if len(found.stages) > 1:
        raise ContractError(
            f"{canonical.name} has no one grid of patches to give embeddings of: it merges them in "
            f"{len(found.stages)} stages; build it without --embedder"
        )
    beyond = [tap for tap in taps if not 0 <= tap < found.depth]
    if beyond:
        raise UsageError(
            f"--taps {beyond[0]} is no block of {canonical.name}, which has 0 to {found.depth - 1}"
        )
    model = canonical.model.clone()
    last = f"blocks.{found.depth - 1}"
    builder = _Builder(model.graph, canonical.name)
    stream, pruned = builder.whole_stream(f"{last}.add2")
    norm = norm or builder.final_norm(stream)
    embeddings = builder.embeddings(stream, norm)
    embeddings |= {tap_name(tap): builder.tapped(f"blocks.{tap}.add2") for tap in taps}
    model.graph.outputs[:] = [*embeddings.values(), *model.graph.outputs]
    made = dataclasses.replace(canonical, model=model)
    return FeatureGraph(made, tuple(embeddings), norm, last, pruned, tuple(taps))


class _Builder:
    """Works on one graph, in place."""

    def __init__(self, graph: ir.Graph, name: str) -> None:
        self.graph, self.name = graph, name
        self.embed = next(composites(graph, EMBED))
        self.patches = patches_of(self.embed)

    def whole_stream(self, last_node: str) -> tuple[ir.Value, bool]:
        """What the last block gives for every token, and whether it gave fewer before.

        The head goes on to read the rows that it has read.
        """
        last = next(node for node in self.graph if node.name == last_node)
        stream = last.outputs[0]
        above = ancestors(last)
        selections = [node for node in above if is_composite(node, SELECT)]
        if not selections:
            return stream, False
        ranges = {(integer(node, "start"), integer(node, "stop")) for node in selections}
        if len(ranges) > 1:
            raise ContractError(f"{self.name}: its last block computes several ranges of tokens, {ranges}")
        start, stop = ranges.pop()
        for selection in selections:
            selection.outputs[0].replace_all_uses_with(_made(selection.inputs[0]))
        self.graph.remove(selections, safe=True)
        for node in above:
            for output in node.outputs:
                shape = static_shape(output)
                if shape is not None and len(shape) == 2 and shape[0] == stop - start:
                    output.shape = ir.Shape([self.tokens, shape[1]])
        readers = users(stream)
        read = self.select(stream, start, stop, after=last)
        for reader in readers:
            for position, value in enumerate(reader.inputs):
                if value is stream:
                    reader.replace_input_with(position, read)
        return stream, True

    def final_norm(self, stream: ir.Value) -> FinalNorm:
        """What normalises the tokens, or else their mean."""
        means = [node for value in rows_of(stream) for node in users(value) if is_composite(node, MEAN)]
        for place, sources in (
            (NormPlace.TOKENS, list(rows_of(stream))),
            (NormPlace.MEAN, [node.outputs[0] for node in means]),
        ):
            norms = [node for value in sources for node in users(value) if is_norm(node)]
            found = [FinalNorm.of(node, place) for node in norms]
            if any(not _equal(found[0], other) for other in found[1:]):
                raise ContractError(
                    f"{self.name} has no embedding of its patches: its head normalises the tokens in "
                    f"{len(found)} different ways"
                )
            if found:
                return found[0]
        return FinalNorm(NormPlace.NONE)

    def embeddings(self, stream: ir.Value, norm: FinalNorm) -> dict[str, ir.Value]:
        """Output name -> value; what is for one image (1, D) or (1, rows, columns, D)."""
        prefix, dim = self.patches.prefix, self.patches.dim
        has_cls = prefix > 0 and (0, 1) in read_ranges(stream, 0, self.tokens)
        tokens = self.normalised(stream, norm) if norm.place is NormPlace.TOKENS else stream
        made = {}
        if has_cls:
            made[CLS_EMBEDDING] = self.select(tokens, 0, 1)
        patches = self.patch_rows(tokens)
        pooled = self.node(MEAN, [patches], (1, dim), domain=DOMAIN)
        made[POOLED_EMBEDDING] = self.normalised(pooled, norm) if norm.place is NormPlace.MEAN else pooled
        made[PATCH_FEATURES] = self.as_grid(patches)
        return made

    def tapped(self, name: str) -> ir.Value:
        """The patches that a node of the stream gives, as a grid."""
        stream = next(node for node in self.graph if node.name == name).outputs[0]
        return self.as_grid(self.patch_rows(stream))

    def patch_rows(self, tokens: ir.Value) -> ir.Value:
        """Without what stands in front of the patches."""
        return self.select(tokens, self.patches.prefix, self.tokens) if self.patches.prefix else tokens

    def as_grid(self, patches: ir.Value) -> ir.Value:
        """(1, rows, columns, D)."""
        sizes, name = (self.patches.rows, self.patches.columns, self.patches.dim), f"{PATCH_FEATURES}.shape"
        known = self.graph.initializers.get(name)
        shape = self.constant(np.asarray([-1, *sizes], np.int64), name) if known is None else known
        return self.node("Reshape", [patches, shape], (1, *sizes))

    @property
    def tokens(self) -> int:
        """Tokens of one image, prefix included."""
        return self.patches.prefix + self.patches.count

    def normalised(self, value: ir.Value, norm: FinalNorm) -> ir.Value:
        constants = [self.constant(array, f"features.norm.{i}") for i, array in enumerate(norm.constants)]
        shape = static_shape(value) or ()
        inputs, kind = [value, *constants], norm.kind
        return self.node(kind, inputs, shape, domain=norm.domain, attributes=norm.attributes)

    def select(self, value: ir.Value, start: int, stop: int, after: ir.Node | None = None) -> ir.Value:
        bounds = {"start": ir.AttrInt64("start", start), "stop": ir.AttrInt64("stop", stop)}
        shape = (stop - start, self.patches.dim)
        return self.node(SELECT, [value], shape, domain=DOMAIN, attributes=bounds, after=after)

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        *,
        domain: str = "",
        attributes: Mapping[str, ir.Attr] | None = None,
        after: ir.Node | None = None,
    ) -> ir.Value:
        """The float32 output of a new node, which stands last in the graph or behind another."""
        name = f"features.{op_type}"
        output = ir.Value(name=name, shape=ir.Shape(list(shape)), type=ir.TensorType(ir.DataType.FLOAT))
        given: Any = (attributes or {}).values()
        node = ir.Node(domain, op_type, inputs, given, outputs=[output], name=name)
        if after is None:
            self.graph.append(node)
        else:
            self.graph.insert_after(after, node)
        return output

    def constant(self, array: Array, name: str) -> ir.Value:
        return stored(self.graph, array, name)


def _constants(norm: ir.Node) -> tuple[Array, ...]:
    arrays = (constant_of(value) for value in norm.inputs[1:])
    return tuple(array for array in arrays if array is not None)


def _equal(one: FinalNorm, other: FinalNorm) -> bool:
    return (
        one.kind == other.kind
        and len(one.constants) == len(other.constants)
        and all(np.array_equal(a, b) for a, b in zip(one.constants, other.constants, strict=True))
    )


def _made(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise ValueError("a selection has no input")
    return value
