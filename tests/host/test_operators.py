"""The operators in torch against onnxruntime, one by one: values, and gradients against differences."""

import dataclasses
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
CODES = RNG.integers(-128, 128, (4, 6)).astype(np.int8)


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


def single(value: float) -> Array:
    return np.asarray(value, np.float32)


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
    Case("LayerNormalization", [X, X[0]], {"axis": 1}),  # onnxruntime's
    Case("MatMul", [X, Y.transpose(0, 2, 1)]),
    Case("Pad", [X, whole(0, 1, 2, 0, 0, 3)]),
    Case("Pad", [X, whole(1, 0, 0, 0, 0, 0), single(2.5)]),
    Case("Pad", [X, whole(0, 0, 1, 0, 0, 1)], {"mode": "reflect"}),  # onnxruntime's
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
    Case("Floor", [X]),  # onnxruntime's, as every operator that is not named here
]
SLOPED = ("Gemm", "LayerNormalization", "Softmax", "Gelu", "Gather", "Slice")
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
        # 2e-6: the last bits of float32; codes and what is only moved are equal
        np.testing.assert_allclose(each.numpy(), exact.astype(each.numpy().dtype), rtol=2e-6, atol=2e-6)


def test_every_operator_of_the_table_is_compared() -> None:
    assert set(OPERATORS) <= {case.op for case in CASES}


@pytest.mark.parametrize("case", [case for case in CASES if case.op in SLOPED])
def test_a_gradient_is_the_slope(case: Case) -> None:
    """Central differences in float64 along a random direction."""
    start = torch.tensor(case.inputs[0], dtype=torch.float64)
    rest = [x.double() if x is not None and x.is_floating_point() else x for x in given(case)[1:]]
    node = node_of(case)
    if case.op == "LayerNormalization" and case.attributes.get("axis") == 1:
        with pytest.raises(NoGradientError, match="LayerNormalization"):
            run_node(node, [start.requires_grad_(), *rest])
        return
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def height(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = run_node(node, [x, *rest])[0].sin().sum()
        return made

    moving = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(height(moving), moving)
    along = float((slope * direction).sum())
    step = 1e-6
    difference = float(height(start + step * direction) - height(start - step * direction)) / (2 * step)
    assert along == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_what_only_onnxruntime_knows_has_no_gradient() -> None:
    node = node_of(Case("Floor", [X]))
    with pytest.raises(NoGradientError, match="Floor"):
        run_node(node, [torch.tensor(X, requires_grad=True)])


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="input 0 is missing"):
        run_node(node_of(Case("Softmax", [X])), [None])
