"""What a value is as a sum of scaled elements of one source, found by running its operators on positions."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser, shape_inference

from tests.host.composite_reference import evaluate
from vit_edge.host.rewrite.combination import MOST_TERMS, combination

HEADER = '<ir_version: 10, opset_import: ["": 20]> g (float[1,2,4] x) => (float[1,2,4] y) '
TABLES = """<float[1,2,4] c = {1., 2., 3., 4., 5., 6., 7., 8.}, int64[4] i = {2, 3, 0, 1},
 int64[2] h = {2, 2}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
 int64[4] s = {1, 2, 2, 2}, int64[3] w = {1, 2, 4}> """

SUMS = {
    "a product with a table": "{ y = Mul(c, x) }",
    "halves exchanged by Gather": "{ a = Gather<axis=2>(x, i)  b = Mul(a, c)  y = Add(x, b) }",
    "halves exchanged by Split and Concat": """{
        a, b = Split<axis=-1>(x, h)  n = Neg(b)  r = Concat<axis=-1>(n, a)  m = Mul(r, c)  y = Sub(x, m) }""",
    "a part left as it is": """{
        a = Slice(x, zero, one, one)  b = Slice(x, one, two, one)
        d = Gather<axis=2>(b, i)  e = Sub(b, d)  y = Concat<axis=1>(a, e) }""",
    "neighbours exchanged by Reshape": """{
        r = Reshape(x, s)  t = Transpose<perm=[0, 1, 3, 2]>(r)  f = Reshape(t, w)  y = Div(f, c) }""",
}
NO_SUMS = {
    "a square": "{ y = Mul(x, x) }",
    "a division by it": "{ y = Div(c, x) }",
    "a sum of two sources": "{ a = Tanh(x)  y = Add(a, x) }",
    "a constant added": "{ y = Add(x, c) }",
    "too many terms": "{ a = Gather<axis=2>(x, i)  b = Add(a, x)  d = Add(b, x)  y = Add(d, a) }",
}


def given(body: str) -> tuple[onnx.ModelProto, ir.Value]:
    model = shape_inference.infer_shapes(parser.parse_model(HEADER + TABLES + body))
    return model, ir.from_proto(model).graph.outputs[0]


@pytest.mark.parametrize("body", SUMS.values(), ids=SUMS.keys())
def test_the_terms_add_up_to_the_value(body: str) -> None:
    model, value = given(body)
    found = combination(value)
    assert found is not None
    assert found.source.name == "x"
    assert len(found.terms) <= MOST_TERMS
    x = np.random.default_rng(0).standard_normal((1, 2, 4), dtype=np.float32)
    expected = evaluate(model, {"x": x})[0]
    total = sum(term.factor * x.reshape(-1)[term.index] for term in found.terms)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("body", NO_SUMS.values(), ids=NO_SUMS.keys())
def test_what_is_no_such_sum_is_none(body: str) -> None:
    found = combination(given(body)[1])
    assert found is None or found.source.name != "x"
