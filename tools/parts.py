"""Parts of a ViT's block in several forms, each a graph of its own, for `tools.bench_parts`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32, Int8
from vit_edge.host.affine import Affine
from vit_edge.host.lower.attention import Heads, split_packed
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import weight_and_bias
from vit_edge.spec import WRITTEN

INPUT = Affine(0.02, 128)
HIDDEN = Affine(0.05, 120)
ACTIVATED = Affine(0.025, 7)
QUERIES = Affine(0.05, 128)
REACH = Affine(0.05, 0, np.int8)  # of keys and values
STEEPNESS = 1.702  # of the sigmoid that is nearest to GELU (Hendrycks and Gimpel 2016)
EPSILON = 1e-6
ELEMENTS = {
    np.dtype(np.uint8): ir.DataType.UINT8,
    np.dtype(np.int8): ir.DataType.INT8,
    np.dtype(np.float32): ir.DataType.FLOAT,
}


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
    return bytes(ir.to_proto(ir.Model(graph, ir_version=WRITTEN.ir)).SerializeToString())


def _coded_input(w: GraphWriter, sizes: Sizes) -> tuple[ir.Value, ir.Value]:
    x = _input((sizes.tokens, sizes.dim), ir.DataType.UINT8)
    return x, w.dequantized(x, INPUT, "input")


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
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.UINT8)
    hidden = _conv_in_codes(w, x, sizes, _Layer.random(sizes, 4 * sizes.dim), HIDDEN)
    return _written(
        w, x, [(_sigmoid_of_codes(w, w.reshape(hidden, (-1, 4 * sizes.dim), "flat")), ir.DataType.UINT8)]
    )


def _sigmoid_of_codes(w: GraphWriter, hidden: ir.Value) -> ir.Value:
    steeper = Affine(HIDDEN.scale * STEEPNESS, HIDDEN.zero_point)
    gate = w.op("Sigmoid", [w.dequantized(hidden, steeper, "steeper")], "gate")
    both = [w.dequantized(hidden, HIDDEN, "hidden"), w.fake(gate, Affine(1 / 255), "gate")]
    return w.quantized(w.op("Mul", both, "act"), ACTIVATED, "act")


def _conv_in_codes(w: GraphWriter, x: ir.Value, sizes: Sizes, layer: _Layer, reach: Affine) -> ir.Value:
    """Codes (1, tokens, 1, out) of a product of codes (tokens, in)."""
    image = w.transpose(w.reshape(x, (1, -1, 1, sizes.dim), "image"), (0, 3, 1, 2), "channels")
    weight = np.ascontiguousarray(layer.weight.T)[:, :, None, None]
    constants = weight_and_bias(w, weight, layer.scale, layer.bias, INPUT.scale, "product", axis=0)
    inputs = [w.dequantized(image, INPUT, "input"), *constants]
    made = w.op("Conv", inputs, "product", {"kernel_shape": [1, 1]})
    return w.transpose(w.quantized(made, reach, "product"), (0, 2, 3, 1), "rows")


def packed_product(sizes: Sizes) -> bytes:
    """One product for queries, keys and values, in real numbers; each is coded by itself."""
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    packed = _product(w, restored, _Layer.random(sizes, 3 * sizes.dim), "qkv")
    q, k, v = split_packed(w, packed, 3, sizes.apart, "attention")
    return _attended(
        w, x, w.quantized(q, QUERIES, "q"), w.quantized(k, REACH, "k"), w.quantized(v, REACH, "v")
    )


def two_products(sizes: Sizes) -> bytes:
    """A product for the queries, with codes behind it, and one for keys and values.

    Those have int8 codes, with which behind a product of uint8 onnxruntime leaves it in real numbers.
    """
    w = GraphWriter()
    x, restored = _coded_input(w, sizes)
    whole, heads = _Layer.random(sizes, 3 * sizes.dim), sizes.apart
    first, others = whole.columns(slice(sizes.dim)), whole.columns(slice(sizes.dim, None))
    queries = w.quantized(_product(w, restored, first, "q"), QUERIES, "q")
    apart = w.reshape(queries, (-1, sizes.tokens, sizes.heads, heads.width), "q.rows")
    k, v = split_packed(w, _product(w, restored, others, "kv"), 2, heads, "attention")
    q = w.transpose(apart, (0, 2, 1, 3), "q.heads")
    return _attended(w, x, q, w.quantized(k, REACH, "k"), w.quantized(v, REACH, "v"))


def product_in_codes(sizes: Sizes) -> bytes:
    """One product with codes of one range behind it: bytes are moved, signs of keys and values change last.

    It is a 1x1 Conv, whose integer kernel is onnxruntime's fastest with codes behind it. That there is one
    range costs nothing: the scales of the columns can take up that of each part.
    """
    w, x, width = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.UINT8), sizes.apart.width
    stored = _conv_in_codes(w, x, sizes, _Layer.random(sizes, 3 * sizes.dim), QUERIES)
    apart = w.reshape(stored, (-1, sizes.tokens, 3 * sizes.heads, width), "apart")
    parts = w.shared(np.asarray([sizes.heads] * 3, np.int64), "sizes")
    q, k, v = w.ops("Split", [apart, parts], "parts", {"axis": 2}, 3)
    signed = [
        w.quantized(w.dequantized(part, QUERIES, name), REACH, name) for part, name in ((k, "k"), (v, "v"))
    ]
    return _attended(w, x, *(w.transpose(part, (0, 2, 1, 3), "heads") for part in (q, *signed)))


def _attended(w: GraphWriter, x: ir.Value, q: ir.Value, k: ir.Value, v: ir.Value) -> bytes:
    keys = w.transpose(k, (0, 1, 3, 2), "keys")
    return _written(w, x, [(q, ir.DataType.UINT8), (keys, ir.DataType.INT8), (v, ir.DataType.INT8)])


def layer_normalization(sizes: Sizes) -> bytes:
    """LayerNormalization with a scale."""
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.FLOAT)
    constants = [w.constant(_scale(sizes), "scale"), w.constant(np.zeros(sizes.dim, np.float32), "bias")]
    made = w.op("LayerNormalization", [x, *constants], "y", {"axis": -1, "epsilon": EPSILON})
    return _written(w, x, [(made, ir.DataType.FLOAT)])


def rms_in_parts(sizes: Sizes) -> bytes:
    """What it is of rows without a mean: division by the root of the mean square, which onnxruntime fuses."""
    w, x = GraphWriter(), _input((sizes.tokens, sizes.dim), ir.DataType.FLOAT)
    square = w.op("Pow", [x, w.shared(np.asarray(2, np.float32), "two")], "square")
    mean = w.op("ReduceMean", [square, w.shared(np.asarray([-1], np.int64), "axes")], "mean", {"keepdims": 1})
    root = w.op(
        "Sqrt", [w.op("Add", [mean, w.shared(np.asarray(EPSILON, np.float32), "epsilon")], "sum")], "root"
    )
    made = w.op("Mul", [w.op("Div", [x, root], "unit"), w.constant(_scale(sizes), "scale")], "y")
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
            "one product in codes, bytes are moved": product_in_codes,
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
