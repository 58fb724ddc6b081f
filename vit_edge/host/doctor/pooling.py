"""The same model with a head that reads the mean of the patches for the class token, or the reverse."""

import dataclasses

import onnx_ir as ir

from vit_edge.errors import ContractError
from vit_edge.host.embedder.graph import feature_graph
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import DOMAIN, EMBED, LINEAR, MEAN, SELECT, composites, is_composite
from vit_edge.host.rewrite.values import static_shape
from vit_edge.spec import POOLED_EMBEDDING


def other_pooling(canonical: Canonical) -> tuple[str, Canonical] | str:
    """What the head reads then, and the model; or why there is no other thing to read.

    Args:
        canonical: from `canonicalise`, not folded.
    """
    found = canonical.description
    if found is None or len(found.stages) > 1:
        return "the model is no plain ViT"
    if patches_of(next(composites(canonical.model.graph, EMBED))).prefix == 0:
        return "the model has no class token"
    heads = [node for node in composites(canonical.model.graph, LINEAR) if str(node.name).startswith("head")]
    if len(heads) != 1:
        return f"the head has {len(heads)} linear layers"
    if found.pooling in ("mean", f"mean and tokens {found.prefix_tokens}..{found.tokens}"):
        return "class token in place of the mean", _class_token(canonical)
    if found.pooling == "tokens 0..1":
        try:
            return "mean of the patches in place of the class token", _mean(canonical)
        except ContractError as error:
            return str(error)
    return f"the head reads {found.pooling}"


def _mean(canonical: Canonical) -> Canonical:
    features = feature_graph(canonical)
    model = features.canonical.model
    outputs = list(model.graph.outputs)
    pooled = outputs[features.outputs.index(POOLED_EMBEDDING)]
    head = next(node for node in composites(model.graph, LINEAR) if str(node.name).startswith("head"))
    head.replace_input_with(0, pooled)
    model.graph.outputs[:] = outputs[-1:]
    model.graph.sort()
    return dataclasses.replace(canonical, model=model)


def _class_token(canonical: Canonical) -> Canonical:
    model = canonical.model.clone()
    (mean,) = composites(model.graph, MEAN)
    tokens = mean.inputs[0]
    while tokens is not None and is_composite(tokens, SELECT):
        tokens = tokens.producer().inputs[0]  # type: ignore[union-attr]
    width = (static_shape(mean.outputs[0]) or (1, 0))[1]
    output = ir.Value(name="doctor.cls", shape=ir.Shape([1, width]), type=ir.TensorType(ir.DataType.FLOAT))
    bounds = ir.AttrInt64("start", 0), ir.AttrInt64("stop", 1)
    select = ir.Node(DOMAIN, SELECT, [tokens], bounds, outputs=[output], name="doctor.cls")
    model.graph.insert_after(mean, select)
    mean.outputs[0].replace_all_uses_with(output)
    return dataclasses.replace(canonical, model=model)
