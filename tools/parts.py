"""Parts of a ViT's block in several forms, each a graph of its own, for `tools.bench_parts`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from vit_edge.arrays import Array, Float32, Int8
from vit_edge.host.affine import Affine
from vit_edge.host.lower.attention import Heads, split_heads, split_packed
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.in_codes import Packed, product_in_codes, split_in_codes
from vit_edge.host.lower.linear import weight_and_bias
from vit_edge.host.lower.tokens import rms_normed
from vit_edge.host.plan import ConvPlan, LinearPlan
from vit_edge.spec import WRITTEN

INPUT = Affine(0.02, 128)
HIDDEN = Affine(0.05, 120)
ACTIVATED = Affine(0.025, 7)
QUERIES = Affine(0.05, 128)
REACH = Affine(0.05, 0, np.int8)  # of keys and values
STEEPNESS = 1.702  # of the sigmoid that is nearest to GELU (Hendrycks and Gimpel 2016)
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of one block and one image."""

    tokens: int
    dim: int
    heads: int

    @property
    def apart(self) -> Heads:
        """The heads of its attention."""
        return Heads(self.heads, self.dim // self.heads, self.tokens, self.tokens)


@dataclasses.dataclass(frozen=True)
class Part:
    """What goes in, and the forms of what is done to it."""

    given: Callable[[Sizes], Array]
    forms: Mapping[str, Callable[[Sizes], bytes]]
    count: int = 1
    """In a block."""


def codes(sizes: Sizes) -> Array:
    """Codes of normalized tokens, uint8 (tokens, dim)."""
    values = np.random.default_rng(1).normal(0, 40, (sizes.tokens, sizes.dim)) + 128
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def rows(sizes: Sizes) -> Array:
    """A residual stream whose rows have no mean, float32 (tokens, dim)."""
    values = np.random.default_rng(2).standard_normal((sizes.tokens, sizes.dim), np.float32)
    centred: Array = values - values.mean(axis=1, keepdims=True)
    return centred


@dataclasses.dataclass(frozen=True, eq=False)
class _Layer:
    """A linear layer in integers: weight (in, out), scale and bias (out,)."""

    weight: Int8
    scale: Float32
    bias: Float32

    @classmethod
    def random(cls, sizes: Sizes, columns: int) -> "_Layer":
        random = np.random.default_rng(3)
        weight = random.integers(-127, 128, (sizes.dim, columns)).astype(np.int8)
        scale = random.uniform(2e-4, 5e-4, columns).astype(np.float32)
        return cls(weight, scale, random.normal(0, 0.1, columns).astype(np.float32))

    def columns(self, some: slice) -> "_Layer":
        return _Layer(self.weight[:, some], self.scale[some], self.bias[some])


def _input(shape: Sequence[int], element: ir.DataType) -> ir.Value:
    return ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(element))


def _written(w: GraphWriter, x: ir.Value, made: Sequence[tuple[ir.Value, ir.DataType]]) -> bytes:
    for value, element in made:
        value.dtype = element
    initializers = list(w.initializers.values())
    graph = ir.Graph(
        [x],
        [value for value, _ in made],
        nodes=w.nodes,
        initializers=initializers,
        opset_imports={"": WRITTEN.opset},
        name="part",
    )
    model = ir.Model(graph, ir_version=WRITTEN.ir)
    RemoveUnusedNodesPass()(model)  # onnxruntime would run them
    return bytes(ir.to_proto(model).SerializeToString())


def _coded_input(w: GraphWriter, sizes: Sizes) -> tuple[ir.Value, ir.Value]:
    x = _input((sizes.tokens, sizes.dim), ir.DataType.UINT8)
    return x, w.restored(x, INPUT, "input")


def _product(w: GraphWriter, restored: ir.Value, layer: _Layer, name: str) -> ir.Value:
    constants = weight_and_bias(w, layer.weight, layer.scale, layer.bias, INPUT.scale, name)
    return w.op("Gemm", [restored, *constants], name)


def float_gelu(approximate: str) -> Callable[[Sizes], bytes]:
    """The first product of the MLP, GELU of real numbers, and its codes."""

    def write(sizes: Sizes) -> bytes:
        w = GraphWriter()
        x, restored = _coded_input(w, sizes)
        hidden = _product(w, restored, _Layer.random(sizes, 4 * sizes.dim), "fc1")
        activated = w.op("Gelu", [hidden], "act", {"approximate": approximate})
        return _written(w, x, [(w.quantized(activated, ACTIVATED, "act"), ir.DataType.UINT8)])

    return write


def integer_gelu(sizes: Sizes) -> bytes:
    """The same with codes behind the product, and x * sigmoid(1.702 x) of codes."""
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    hidden = w.quantized(_product(w, restored, _Layer.random(sizes, 4 * sizes.dim), "fc1"), HIDDEN, "fc1.out")
    return _written(w, x, [(_sigmoid_of_codes(w, hidden), ir.DataType.UINT8)])


def integer_gelu_behind_conv(sizes: Sizes) -> bytes:
    """The same with a 1x1 Conv for the product."""
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    layer = _Layer.random(sizes, 4 * sizes.dim)
    weight = np.ascontiguousarray(layer.weight.T)[:, :, None, None]
    coded = product_in_codes(w, restored, ConvPlan(INPUT, HIDDEN, weight, layer.scale, layer.bias), "fc1")
    hidden = w.reshape(w.transpose(coded, (0, 2, 3, 1), "rows"), (-1, 4 * sizes.dim), "flat")
    return _written(w, x, [(_sigmoid_of_codes(w, hidden), ir.DataType.UINT8)])


def _sigmoid_of_codes(w: GraphWriter, hidden: ir.Value) -> ir.Value:
    steeper = Affine(HIDDEN.scale * STEEPNESS, HIDDEN.zero_point)
    gate = w.op("Sigmoid", [w.dequantized(hidden, steeper, "steeper")], "gate")
    both = [w.dequantized(hidden, HIDDEN, "hidden"), w.fake(gate, Affine(1 / 255), "gate")]
    return w.quantized(w.op("Mul", both, "act"), ACTIVATED, "act")


def packed_product(sizes: Sizes) -> bytes:
    """One product for queries, keys and values, in real numbers; each is coded by itself."""
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    packed = _product(w, restored, _Layer.random(sizes, 3 * sizes.dim), "qkv")
    return _attended(w, x, *split_packed(w, packed, 3, sizes.apart, "attention"))


def two_products(sizes: Sizes) -> bytes:
    """A product for the queries, with codes behind it, and one for keys and values.

    Those have int8 codes, with which behind a product of uint8 onnxruntime leaves it in real numbers.
    """
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    whole, heads = _Layer.random(sizes, 3 * sizes.dim), sizes.apart
    first, others = whole.columns(slice(sizes.dim)), whole.columns(slice(sizes.dim, None))
    queries = w.quantized(_product(w, restored, first, "q"), QUERIES, "q")
    q = w.restored(split_heads(w, queries, sizes.tokens, heads, "q"), QUERIES, "q")
    return _attended(w, x, q, *split_packed(w, _product(w, restored, others, "kv"), 2, heads, "attention"))


def one_product_in_codes(sizes: Sizes) -> bytes:
    """One product with codes of one range behind it: bytes are moved, as files for VNNI have it."""
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    layer = _Layer.random(sizes, 3 * sizes.dim)
    plan = LinearPlan(INPUT, layer.weight, layer.scale, layer.bias)
    packed = Packed("qkv", plan, INPUT, restored, (QUERIES, REACH, REACH))
    return _attended(w, x, *split_in_codes(w, restored, packed, sizes.apart, "attention"))


def _attended(w: GraphWriter, x: ir.Value, q: ir.Value, k: ir.Value, v: ir.Value) -> bytes:
    """The codes that an attention reads of real operands (1, heads, tokens, width)."""
    keys = w.transpose(w.quantized(k, REACH, "k"), (0, 1, 3, 2), "keys")
    coded = [w.quantized(q, QUERIES, "q"), keys, w.quantized(v, REACH, "v")]
    return _written(
        w, x, list(zip(coded, (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT8), strict=True))
    )


def layer_normalization(sizes: Sizes) -> bytes:
    """LayerNormalization with a scale."""
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.FLOAT)
    constants = [w.constant(_scale(sizes), "scale"), w.constant(np.zeros(sizes.dim, np.float32), "bias")]
    made = w.op("LayerNormalization", [x, *constants], "y", {"axis": -1, "epsilon": EPSILON})
    return _written(w, x, [(made, ir.DataType.FLOAT)])


def rms_in_parts(sizes: Sizes) -> bytes:
    """What it is of rows without a mean: division by the root of the mean square, which onnxruntime fuses."""
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.FLOAT)
    made = rms_normed(w, x, w.constant(_scale(sizes), "scale"), EPSILON, "y")
    return _written(w, x, [(made, ir.DataType.FLOAT)])


def instance_normalization(sizes: Sizes) -> bytes:
    """InstanceNormalization of the tokens, and the scale behind it."""
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.FLOAT)
    image = w.reshape(x, (1, sizes.tokens, sizes.dim), "image")
    ones, zeros = (make(sizes.tokens, np.float32) for make in (np.ones, np.zeros))
    inputs = [image, w.constant(ones, "ones"), w.constant(zeros, "zeros")]
    flat = w.reshape(
        w.op("InstanceNormalization", inputs, "unit", {"epsilon": EPSILON}), (-1, sizes.dim), "flat"
    )
    return _written(w, x, [(w.op("Mul", [flat, w.constant(_scale(sizes), "scale")], "y"), ir.DataType.FLOAT)])


def _scale(sizes: Sizes) -> Array:
    return np.random.default_rng(4).uniform(0.5, 2, sizes.dim).astype(np.float32)


PARTS = {
    "first product and GELU": Part(
        codes,
        {
            "tanh form of real numbers": float_gelu("tanh"),
            "exact form of real numbers": float_gelu("none"),
            "x * sigmoid(1.702 x) in codes": integer_gelu,
            "x * sigmoid(1.702 x) in codes behind a Conv": integer_gelu_behind_conv,
        },
    ),
    "queries, keys, values": Part(
        codes,
        {
            "one product, three quantizers": packed_product,
            "two products, codes behind the queries' one": two_products,
            "one product in codes, bytes are moved": one_product_in_codes,
        },
    ),
    "normalization": Part(
        rows,
        {
            "LayerNormalization": layer_normalization,
            "root mean square of rows without a mean": rms_in_parts,
            "InstanceNormalization": instance_normalization,
        },
        count=2,
    ),
}
