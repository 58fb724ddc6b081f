"""The composite operators between raising and lowering: their names, shapes and meaning.

They live in the private domain `vit_edge` and never reach a file. While they exist the graph is specialised
to one image, and the token stream is rank 2: `(tokens, dim)`. Nothing in a composite depends on the batch
size, which is what lets lowering choose a fixed or a dynamic one. All tensors are float32.

    Embed(image (1,C,H,W), weight (C*P*Q, dim), table (tokens, dim); patch=(P, Q), prefix) -> (tokens, dim)
        Row i < prefix is table[i]; row prefix + j is flatten(patch j) @ weight + table[prefix + j].
        Patches run in row-major order and are flattened channel first, as a Conv weight is.
    Linear(x (rows, in), weight (in, out), bias (out)?) -> (rows, out)
        x @ weight + bias.
    Attention(q (m, dim), k (n, dim), v (n, dim), bias (heads, m, n)?; heads, scale, windows) -> (m, dim)
        softmax(q_h @ k_h.T * scale + bias_h) @ v_h for each head h, heads being consecutive slices of the
        columns. The bias is a constant: positions relative to one another. With more than one window the
        rows are as many consecutive groups, and each attends to itself alone; m and n are then those of one
        window, and the bias may have one more axis in front, for each window its own.
        Where tokens were merged it has two more inputs and another output, see `merging`:
        Attention(..., bias?, sizes (n, 1)?, frame (2, dim); heads, scale) -> (m, dim), (n, dim / heads)
        log(sizes) is added to the scores of each key. The second output is the mean over the heads of
        k * frame[0] + frame[1], by which tokens are told alike.
    MergeTokens(x (tokens, dim), alike (tokens, width), sizes (tokens, 1)?; count, prefix)
            -> (tokens - count, dim), (tokens - count, 1)
        ToMe's bipartite soft matching, see `merging`. Sizes say of how many tokens each is the mean; without
        them each is one.
    PermuteTokens(x (tokens, dim), order (tokens)) -> (tokens, dim)
        Row order[i] as row i.
    Rotary(x (rows, dim), cos (rows, width), sin (rows, width); heads) -> (rows, dim)
        x_h * cos + swap(x_h) * sin for each head h of `width` columns, swap exchanging its two halves; the
        sign of the rotation is in sin, and a row that is not turned has cos 1 and sin 0. Only queries and
        keys are turned.
    HeadNorm(x (rows, dim), scale (width), bias (width); heads, epsilon) -> (rows, dim)
        LayerNormalization of each head's columns by themselves. Only queries and keys have it.
    HeadUnit(x (rows, dim), factor (heads); heads) -> (rows, dim)
        Each head's columns divided by their length, times its factor: cosine attention. Only queries and keys
        have it.
    RmsNorm(x (rows, dim), scale (dim); epsilon) -> (rows, dim)
        x / sqrt(mean(x^2) + epsilon) * scale over each row: a normalization that leaves the mean where it is.
    Swish(x (rows, columns); alpha) -> (rows, columns)
        x * sigmoid(alpha * x): SiLU with alpha 1, QuickGELU with 1.702.
    SelectTokens(x (tokens, dim); start, stop) -> (stop - start, dim)
        Rows start to stop.
    MeanTokens(x (tokens, dim), sizes (tokens, 1)?) -> (1, dim)
        Mean over the rows, each counting as its size says.
"""

from collections.abc import Iterator

import onnx_ir as ir

DOMAIN = "vit_edge"
EMBED = "Embed"
LINEAR = "Linear"
ATTENTION = "Attention"
ROTARY = "Rotary"
HEAD_NORM = "HeadNorm"
HEAD_UNIT = "HeadUnit"
RMS_NORM = "RmsNorm"
SWISH = "Swish"
PERMUTE = "PermuteTokens"
MERGE = "MergeTokens"

# Operators on maps (1, channels, rows, columns); none of them acts on tokens.
SPATIAL = (
    "Conv",
    "ConvTranspose",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "Resize",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "DepthToSpace",
    "SpaceToDepth",
)
ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "HardSwish")  # of ONNX; Swish is a composite
SELECT = "SelectTokens"
MEAN = "MeanTokens"


def is_op(value_or_node: ir.Value | ir.Node | None, op_type: str, domain: str = "") -> bool:
    """Whether a node, or the node that makes a value, is the named operator."""
    node = value_or_node.producer() if isinstance(value_or_node, ir.Value) else value_or_node
    return (
        node is not None
        and node.op_type == op_type
        and node.domain in (domain, domain if domain else "ai.onnx")
    )


def is_composite(value_or_node: ir.Value | ir.Node | None, op_type: str) -> bool:
    """Whether a node, or the node that makes a value, is the named composite operator."""
    return is_op(value_or_node, op_type, DOMAIN)


def is_activation(node: ir.Node) -> bool:
    """Whether a node is a non-linearity that acts on each number alone."""
    return is_composite(node, SWISH) or any(is_op(node, kind) for kind in ACTIVATIONS)


def is_norm(value_or_node: ir.Value | ir.Node | None) -> bool:
    """Whether a node, or the node that makes a value, normalises rows: with their mean taken off, or not."""
    return is_op(value_or_node, "LayerNormalization") or is_composite(value_or_node, RMS_NORM)


def is_spatial(value_or_node: ir.Value | ir.Node | None) -> bool:
    """Whether a node, or the node that makes a value, acts on maps."""
    return any(is_op(value_or_node, kind) for kind in SPATIAL)


def image_embed(graph: ir.Graph) -> ir.Node | None:
    """The Embed that cuts its patches from the model's own input."""
    found = (node for node in composites(graph, EMBED) if node.inputs[0] is graph.inputs[0])
    return next(found, None)


def composites(graph: ir.Graph, op_type: str) -> Iterator[ir.Node]:
    """The composite nodes of one kind, in graph order."""
    return (node for node in graph if is_composite(node, op_type))
