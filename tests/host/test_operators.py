"""The operators in torch against onnxruntime, one by one: values, and gradients against differences."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from vit_edge.arrays import Array
from vit_edge.host.operators import OPERATORS, NoGradientError, run_node
from vit_edge.host.ort import cpu_session
from vit_edge.spec import WRITTEN

RNG = np.random.default_rng(3)
X = RNG.normal(0, 2, (3, 4, 6)).astype(np.float32)
Y = RNG.normal(0, 2, (3, 4, 6)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
ROWS, MATRIX = X[0], RNG.normal(size=(6, 5)).astype(np.float32)
FIVE, SIX = RNG.normal(size=5).astype(np.float32), RNG.normal(size=6).astype(np.float32)
MAP = RNG.normal(0, 2, (2, 8, 6, 7)).astype(np.float32)
KERNEL = RNG.normal(size=(5, 8, 3, 2)).astype(np.float32)
GROUPED = RNG.normal(size=(8, 2, 3, 3)).astype(np.float32)
BACK = RNG.normal(size=(8, 5, 3, 4)).astype(np.float32)
EIGHT = RNG.normal(size=8).astype(np.float32)
POOLS = ("AveragePool", "MaxPool")
CODES = RNG.integers(-128, 128, (4, 6)).astype(np.int8)


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


def single(value: float) -> Array:
    return np.asarray(value, np.float32)


def scales(*along: float) -> Array:
    return np.asarray([1, 1, *along], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One operator with its inputs; the first is what a gradient is taken by."""

    op: str
    inputs: Sequence[Array | None]
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outputs: int = 1


CASES = [
    *(Case(op, [X]) for op in ("Abs", "Erf", "Exp", "HardSwish", "Identity", "Relu", "Sigmoid", "Tanh")),
    *(Case(op, [POSITIVE]) for op in ("Reciprocal", "Sqrt")),
    *(Case(op, [X, Y]) for op in ("Add", "Sub", "Mul", "Div", "Max")),
    Case("Add", [X, SIX]),
    Case("Max", [X, single(0.5)]),
    Case("Max", [X, Y, single(0.0)]),
    Case("Div", [np.asarray([-7, 7, 5]), np.asarray([2, -2, 5])]),
    Case("Cast", [RNG.integers(0, 256, (2, 3)).astype(np.uint8)], {"to": 1}),
    Case("Cast", [X], {"to": 11}),  # float64 is onnxruntime's
    Case("Concat", [X, Y], {"axis": -1}),
    Case("DequantizeLinear", [CODES, single(0.1), np.asarray(3, np.int8)]),
    Case("DequantizeLinear", [CODES, np.abs(SIX), np.zeros(6, np.int8)], {"axis": 1}),
    Case("DequantizeLinear", [np.arange(6, dtype=np.int32), np.abs(SIX), np.zeros(6, np.int32)], {"axis": 0}),
    Case("QuantizeLinear", [X, single(0.013), np.asarray(128, np.uint8)]),
    Case("QuantizeLinear", [X, single(0.013), np.asarray(-5, np.int8)]),
    Case("QuantizeLinear", [np.arange(-6, 6, dtype=np.float32) / 2, single(1.0), np.asarray(7, np.uint8)]),
    Case("Gather", [X, np.asarray(1)], {"axis": 1}),
    Case("Gather", [X, whole(2, -1, 0)], {"axis": -1}),
    Case("Gather", [X, np.asarray([[0, 2], [1, 1]])]),
    Case("Gelu", [X]),
    Case("Gelu", [X], {"approximate": "tanh"}),
    Case("Gemm", [ROWS, MATRIX]),
    Case("Gemm", [ROWS, MATRIX, FIVE]),
    Case("Gemm", [ROWS.T, MATRIX.T, FIVE], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("LayerNormalization", [X, SIX, SIX], {"axis": -1, "epsilon": 1e-3}),
    Case("LayerNormalization", [X, SIX]),
    Case("LpNormalization", [X], {"axis": -1, "p": 2}),
    Case("LpNormalization", [X], {"axis": 1, "p": 2}),
    Case("LayerNormalization", [X, X[0]], {"axis": 1}),  # onnxruntime's
    Case("MatMul", [X, Y.transpose(0, 2, 1)]),
    Case("Pad", [X, whole(0, 1, 2, 0, 0, 3)]),
    Case("Pad", [X, whole(1, 0, 0, 0, 0, 0), single(2.5)]),
    *(Case(op, [X, whole(-1)]) for op in ("ReduceMax", "ReduceMean", "ReduceSum")),
    Case("ReduceMean", [X, whole(0, 2)], {"keepdims": 0}),
    Case("ReduceSum", [X]),
    Case("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    Case("Reshape", [X, whole(-1, 6)]),
    Case("Reshape", [X, whole(0, 2, -1)]),
    Case("Slice", [X, whole(1), whole(9), whole(1)]),
    Case("Slice", [X, whole(-1, 0), whole(-9, 2), whole(2, 0), whole(-2, 1)]),
    Case("Slice", [X, whole(1, 0), whole(2, 3)]),
    Case("Softmax", [X], {"axis": -1}),
    Case("Softmax", [X], {"axis": 1}),
    Case("Split", [X, whole(1, 3)], {"axis": 1}, 2),
    Case("Split", [X], {"axis": 2, "num_outputs": 3}, 3),
    Case("Transpose", [X], {"perm": [2, 0, 1]}),
    Case("Transpose", [X]),
    Case("Sinh", [X]),  # onnxruntime's, as every operator that is not named here
    *(Case(op, [X]) for op in ("Cos", "Neg", "Selu", "Sin", "Softplus", "Softsign", "Mish")),
    *(Case(op, [X], {"alpha": 0.7}) for op in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")),
    *(Case(op, [X]) for op in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid")),
    Case("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.1}),
    Case("Log", [POSITIVE]),
    Case("LogSoftmax", [X], {"axis": 1}),
    Case("Clip", [X, single(0.0), single(1.5)]),
    Case("Clip", [X, None, single(1.5)]),
    Case("Clip", [X]),
    Case("PRelu", [X, SIX]),
    Case("Pow", [POSITIVE, single(1.7)]),
    Case("Pow", [X, np.asarray(2)]),
    *(Case(op, [X, Y, SIX]) for op in ("Min", "Mean", "Sum")),
    Case("Where", [X > 0, X, Y]),
    *(Case(op, [X], {"axis": 1}) for op in ("ArgMax", "ArgMin")),
    *(Case(op, [X, Y]) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    *(Case(op, [X]) for op in ("Ceil", "Floor", "IsInf", "IsNaN", "Round", "Shape", "Sign", "Size")),
    *(Case(op, [X, whole(1)]) for op in ("ReduceL2", "ReduceMin", "ReduceSumSquare")),
    *(Case("Pad", [X, whole(0, 3, 2, 0, 1, 4)], {"mode": mode}) for mode in ("edge", "reflect", "wrap")),
    Case("Pad", [X, whole(2, 3), single(0.5), whole(-1)]),
    Case("Unsqueeze", [X, whole(-1, 0)]),
    Case("Squeeze", [X[:1, None], whole(0, 1)]),
    Case("Squeeze", [X[:1, None]]),
    Case("Flatten", [MAP]),
    Case("Flatten", [MAP], {"axis": -1}),
    Case("Expand", [X[:, :1], whole(2, 1, 5, 1)]),
    Case("Tile", [X, whole(1, 2, 3)]),
    *(Case("DepthToSpace", [MAP], {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    Case("SpaceToDepth", [MAP[..., :6]], {"blocksize": 2}),
    Case("GatherElements", [X, RNG.integers(-4, 4, (3, 2, 6))], {"axis": 1}),
    Case("TopK", [X, whole(3)], {"axis": 1}, 2),
    Case("Einsum", [X, MATRIX], {"equation": "nij,jk->nik"}),
    Case("Conv", [MAP, KERNEL, FIVE]),
    Case("Conv", [MAP, KERNEL], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    Case("Conv", [MAP, GROUPED], {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", [MAP, GROUPED], {"group": 4, "auto_pad": "SAME_LOWER", "strides": [1, 3]}),
    Case("Conv", [MAP, KERNEL], {"auto_pad": "VALID"}),
    Case("Conv", [X, RNG.normal(size=(5, 4, 3)).astype(np.float32)], {"pads": [1, 1]}),
    Case("ConvTranspose", [MAP, BACK, FIVE], {"strides": [2, 2], "pads": [1, 0, 1, 2]}),
    Case("ConvTranspose", [MAP, BACK], {"strides": [3, 2], "output_padding": [2, 1], "pads": [0, 0, 1, 1]}),
    Case("ConvTranspose", [MAP, BACK, FIVE], {"strides": [3, 1], "output_padding": [2, 0]}),
    Case("ConvTranspose", [MAP, GROUPED], {"group": 4, "dilations": [2, 1]}),
    Case("ConvTranspose", [MAP, BACK], {"strides": [2, 2], "output_shape": [12, 16]}),  # onnxruntime's
    *(Case(op, [MAP], {"kernel_shape": [3, 2], "strides": [2, 2]}) for op in POOLS),
    *(Case(op, [MAP], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}) for op in POOLS),
    *(Case(op, [MAP], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 0], "strides": [2, 3]}) for op in POOLS),
    *(Case(op, [MAP], {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}) for op in POOLS),
    Case("MaxPool", [MAP], {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    Case("MaxPool", [MAP], {"kernel_shape": [2, 2], "strides": [2, 2]}, 2),  # onnxruntime's
    Case("AveragePool", [MAP], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    *(Case(op, [MAP]) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    Case("BatchNormalization", [MAP, EIGHT, EIGHT, EIGHT, np.abs(EIGHT) + np.float32(0.1)]),
    Case("InstanceNormalization", [MAP, EIGHT, EIGHT], {"epsilon": 1e-3}),
    *(
        Case("Resize", [MAP, None, scales(2.0, 3.0)], {"mode": mode, "coordinate_transformation_mode": where})
        for mode, where in itertools.product(
            ("nearest", "linear", "cubic"),
            ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
        )
    ),
    *(Case("Resize", [MAP, None, None, whole(2, 8, 5, 13)], {"mode": mode}) for mode in ("linear", "cubic")),
    Case("Resize", [MAP, None, None, whole(3, 4)], {"mode": "linear", "axes": [2, 3], "antialias": 1}),
    Case("Resize", [MAP, None, scales(2.0, 2.0)], {"nearest_mode": "floor"}),
    Case(
        "Resize",
        [MAP, None, None, whole(9, 9)],
        {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
    ),  # onnxruntime's
]
WITHOUT_SLOPE = {  # these attributes are onnxruntime's own, and a few operators take whole numbers only
    "axis": ("LayerNormalization", 1),
    "output_shape": ("ConvTranspose", None),
    "keep_aspect_ratio_policy": ("Resize", None),
}
CALLED = [f"{case.op}-{i}" for i, case in enumerate(CASES)]


def node_of(case: Case) -> ir.Node:
    inputs = [
        None
        if array is None
        else ir.Value(
            name=f"i{i}", shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
        )
        for i, array in enumerate(case.inputs)
    ]
    outputs = [ir.Value(name=f"o{i}") for i in range(case.outputs)]
    attributes = ir.convenience.convert_attributes(dict(case.attributes))
    return ir.Node("", case.op, inputs, attributes, outputs=outputs, name="node")


def expected(case: Case) -> list[Array]:
    node = node_of(case)
    graph = ir.Graph(
        [value for value in node.inputs if value is not None],
        list(node.outputs),
        nodes=[node],
        opset_imports={"": WRITTEN.opset},
        name="g",
    )
    model = ir.to_proto(ir.Model(graph, ir_version=WRITTEN.ir)).SerializeToString()
    feeds = {f"i{i}": array for i, array in enumerate(case.inputs) if array is not None}
    return [np.asarray(array) for array in cpu_session(model).run(None, feeds)]


def given(case: Case) -> list[torch.Tensor | None]:
    return [None if array is None else torch.tensor(array) for array in case.inputs]


@pytest.mark.parametrize("case", CASES, ids=CALLED)
def test_an_operator_computes_what_onnxruntime_does(case: Case) -> None:
    found = run_node(node_of(case), given(case))
    wanted = expected(case)
    assert [tuple(each.shape) for each in found] == [each.shape for each in wanted]
    for each, exact in zip(found, wanted, strict=True):
        # 2e-6: the last bits of float32, of sums of the largest; codes and what is only moved are equal
        near = 2e-6 * max(1.0, float(np.abs(exact).max(initial=0.0)))
        np.testing.assert_allclose(each.numpy(), exact.astype(each.numpy().dtype), rtol=2e-6, atol=near)


def test_every_operator_of_the_table_is_compared() -> None:
    assert set(OPERATORS) <= {case.op for case in CASES}


def sloped(case: Case) -> bool:
    """Whether a gradient is asked of it: what takes real numbers and gives real numbers that follow them."""
    first = case.inputs[1] if case.op == "Where" else case.inputs[0]
    return first is not None and first.dtype == np.float32 and case.op not in ("QuantizeLinear", "Cast")


def without_slope(case: Case) -> bool:
    """Whether only onnxruntime computes it, though others of its kind are computed here."""
    own = case.op == "Sinh" or (case.op == "MaxPool" and case.outputs == 2)
    return own or any(
        key in case.attributes and case.op == op and value in (None, case.attributes[key])
        for key, (op, value) in WITHOUT_SLOPE.items()
    )


@pytest.mark.parametrize("case", [case for case in CASES if sloped(case)])
def test_a_gradient_is_the_slope(case: Case) -> None:
    """Central differences in float64 along a random direction."""
    place = 1 if case.op == "Where" else 0
    tensors = [x.double() if x is not None and x.is_floating_point() else x for x in given(case)]
    start, node = tensors[place], node_of(case)
    assert start is not None
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def made(x: torch.Tensor) -> torch.Tensor:
        return run_node(node, [*tensors[:place], x, *tensors[place + 1 :]])[0]

    moving = start.clone().requires_grad_()
    if without_slope(case):
        with pytest.raises(NoGradientError, match=case.op):
            made(moving)
        return
    height = made(moving)
    if not height.requires_grad:  # steps: they stand still where their input moves a little
        assert torch.equal(made(start + 1e-9 * direction), made(start))
        return
    (slope,) = torch.autograd.grad(height.sin().sum(), moving)
    step = 1e-6
    ahead, behind = (made(start + sign * step * direction).sin().sum() for sign in (1, -1))
    difference = float(ahead - behind) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_what_only_onnxruntime_knows_has_no_gradient() -> None:
    node = node_of(Case("Sinh", [X]))
    with pytest.raises(NoGradientError, match="Sinh"):
        run_node(node, [torch.tensor(X, requires_grad=True)])


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="input 0 is missing"):
        run_node(node_of(Case("Softmax", [X])), [None])
