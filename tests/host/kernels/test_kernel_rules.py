"""Each rule that writes a graph for vit-edge-kernels, on the two graphs it carries."""

import importlib
import inspect
import pkgutil

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser, shape_inference

from tests.host.kernels.running import NEEDS_KERNELS, session
from vit_edge.host.kernels import rules as rules_package
from vit_edge.host.kernels.order import RULES
from vit_edge.host.rewrite.rule import Rule, apply_rule
from vit_edge.spec import KERNELS_DOMAIN

EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


def applied(rule: type[Rule], text: str) -> tuple[onnx.ModelProto, onnx.ModelProto, int, tuple[str, ...]]:
    before = shape_inference.infer_shapes(parser.parse_model(text))
    graph = ir.from_proto(before)
    outcome = apply_rule(rule, graph)
    graph.opset_imports[KERNELS_DOMAIN] = 1
    return before, ir.to_proto(graph), outcome.fired, outcome.declined


def answers(model: onnx.ModelProto) -> list[np.ndarray]:
    rng, feeds = np.random.default_rng(3), {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [size.dim_value for size in kind.shape.dim]
        codes = kind.elem_type == onnx.TensorProto.UINT8
        feeds[value.name] = (
            rng.integers(0, 256, shape).astype(np.uint8)
            if codes
            else rng.normal(size=shape).astype(np.float32)
        )
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    made: list[np.ndarray] = session(bare).run(None, feeds)
    return made


@NEEDS_KERNELS
@EVERY_RULE
def test_a_rule_fires_on_its_graph_and_keeps_what_it_computes(rule: type[Rule]) -> None:
    before, after, fired, _ = applied(rule, rule.FIRES)
    assert fired == 1
    assert len(after.graph.node) < len(before.graph.node) or rule.__name__ == "MergeRowCodes"
    for expected, found in zip(answers(before), answers(after), strict=True):
        assert found.dtype == expected.dtype
        # the same integers; floats are rounded in another order, and no value here lies between two codes
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@EVERY_RULE
def test_a_rule_leaves_a_near_miss_alone_and_says_why(rule: type[Rule]) -> None:
    before, after, fired, declined = applied(rule, rule.HOLDS)
    assert fired == 0
    assert declined
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]


def test_every_rule_of_the_folder_is_in_the_order_once() -> None:
    found = set()
    for module in pkgutil.iter_modules(rules_package.__path__):
        members = vars(importlib.import_module(f"{rules_package.__name__}.{module.name}")).values()
        found |= {
            each
            for each in members
            if inspect.isclass(each)
            and issubclass(each, Rule)
            and each.__module__.endswith(f".{module.name}")
        }
    assert found == set(RULES)
    assert len(set(RULES)) == len(RULES)
