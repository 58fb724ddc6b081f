"""What each form of a layer costs on this machine, by timing it alone: same shapes, interleaved, the minimum.

Layers of equal shape share one measurement, which is kept (`cost_table`). Forms are timed in turn, again and
again until no minimum falls any more, by the processor time of the one thread that computes, so that what
else a machine does hardly counts. The figures only rank choices against one another; the latency of the
finished model is measured on the finished model.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.affine import Affine
from vit_edge.host.lower.attention import Added, Heads, float_core, int8_core
from vit_edge.host.lower.conv import int8_conv
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import float_linear, int8_linear
from vit_edge.host.lower.sizes import heads_of
from vit_edge.host.ort import cpu_session
from vit_edge.host.plan import AttentionPlan, ConvPlan, FineRange, LinearPlan, RowRange
from vit_edge.host.quantize.cost_table import CostTable
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.host.quantize.types import Form
from vit_edge.host.rewrite.values import linear_parts, static_shape
from vit_edge.spec import WRITTEN

ROUNDS = 12  # at least
RUNS = 3  # per round
QUIET_ROUNDS = 6  # in a row in which no minimum fell
FALLEN = 0.99  # of what it was before: less is a fall
MOST_ROUNDS = 120
FINE_CLOCK = 1e-6  # seconds; a coarser clock cannot time a layer
LAYER_FORMS = (Form.STATIC, Form.PER_TOKEN, Form.FLOAT)
LINEAR_FORMS = (*LAYER_FORMS, Form.FINE)


@dataclasses.dataclass(frozen=True)
class LinearShape:
    """The sizes of a linear layer for one image."""

    rows: int
    inputs: int
    outputs: int


class Costs:
    """Costs by shape, each measured once."""

    def __init__(self) -> None:
        self.table = CostTable()

    def of_linear(self, node: ir.Node) -> dict[Form, float]:
        """Milliseconds of a Linear composite in each form."""
        rows = (static_shape(node.outputs[0]) or (0,))[0]
        shape = LinearShape(rows, *linear_parts(node)[1].shape)
        return self.table.of(_called("linear", dataclasses.astuple(shape)), lambda: linear_costs(shape))

    def of_conv(self, node: ir.Node) -> dict[Form, float]:
        """Milliseconds of a Conv in each form."""
        weight, given = static_shape(node.inputs[1]) or (), static_shape(node.inputs[0]) or ()
        told = [f"{key}={attribute.value}" for key, attribute in sorted(node.attributes.items())]
        what = " ".join([_called("conv", weight), "of", "x".join(map(str, given)), *told])
        return self.table.of(what, lambda: conv_costs(node))

    def of_attention(self, node: ir.Node) -> dict[Form, float]:
        """Milliseconds of an Attention composite in each form."""
        heads = heads_of(node)
        return self.table.of(_called("attention", dataclasses.astuple(heads)), lambda: attention_costs(heads))

    def of_gelu(self, rows: int, columns: int) -> dict[Form, float]:
        """Milliseconds of GELU in its exact and in its tanh form."""
        return self.table.of(_called("gelu", (rows, columns)), lambda: gelu_costs(rows, columns))


def _called(kind: str, sizes: tuple[int, ...]) -> str:
    """What a measurement is kept under."""
    return f"{kind} {'x'.join(map(str, sizes))}"


def linear_costs(shape: LinearShape) -> dict[Form, float]:
    """Milliseconds of a linear layer in each form, one thread."""
    return _timed({form: _linear_model(shape, form) for form in LINEAR_FORMS}, (shape.rows, shape.inputs))


def conv_costs(node: ir.Node) -> dict[Form, float]:
    """Milliseconds of a Conv in each form it has, one thread."""
    given, made = static_shape(node.inputs[0]) or (), static_shape(node.outputs[0]) or ()
    forms = (Form.STATIC, Form.FLOAT)
    return _timed({form: _conv_model(node, form, given, made) for form in forms}, given)


def attention_costs(heads: Heads) -> dict[Form, float]:
    """Milliseconds of an attention core in each form, one thread."""
    largest = max(heads.queries, heads.keys)
    return _timed(
        {form: _attention_model(heads, form) for form in LAYER_FORMS},
        (heads.windows, heads.heads, largest, heads.width),
    )


def gelu_costs(rows: int, columns: int) -> dict[Form, float]:
    """Milliseconds of GELU in its exact and in its tanh form, one thread."""
    kinds = {Form.FLOAT: "none", Form.TANH: "tanh"}
    return _timed({form: _gelu_model(rows, columns, kind) for form, kind in kinds.items()}, (rows, columns))


def _gelu_model(rows: int, columns: int, approximate: str) -> bytes:
    w, x = GraphWriter(), _input((rows, columns))
    return _model(w, x, w.op("Gelu", [x], "y", {"approximate": approximate}), (rows, columns))


def _linear_model(shape: LinearShape, form: Form) -> bytes:
    w = GraphWriter()
    x = _input((shape.rows, shape.inputs))
    weight = np.random.default_rng(0).integers(-127, 128, (shape.inputs, shape.outputs)).astype(np.int8)
    bias = np.zeros(shape.outputs, np.float32)
    if form is Form.FLOAT:
        made = float_linear(w, x, weight.astype(np.float32), bias, "y")
    else:
        reach = Affine(0.02, 128)
        ranges: dict[Form, Affine | RowRange | FineRange] = {
            Form.STATIC: reach,
            Form.PER_TOKEN: RowRange(),
            Form.FINE: FineRange(reach),
        }
        plan = LinearPlan(ranges[form], weight, np.full(shape.outputs, 0.01, np.float32), bias)
        made = int8_linear(w, x, plan, "y")
    return _model(w, x, made, (shape.rows, shape.outputs))


def _conv_model(node: ir.Node, form: Form, given: tuple[int, ...], made: tuple[int, ...]) -> bytes:
    w, x = GraphWriter(), _input(given)
    shape = static_shape(node.inputs[1]) or ()
    weight = np.random.default_rng(0).integers(-64, 65, shape).astype(np.int8)
    bias = np.zeros(shape[0], np.float32)
    attributes: dict[str, Any] = {key: attribute for key, attribute in node.attributes.items()}  # noqa: C416
    if form is Form.FLOAT:
        inputs = [x, w.constant(weight.astype(np.float32), "weight"), w.constant(bias, "bias")]
        result = w.op("Conv", inputs, "y")
        w.nodes[-1].attributes.update(attributes)
        return _model(w, x, result, made)
    reach = Affine(0.02, 128)
    plan = ConvPlan(reach, reach, weight, np.full(shape[0], 0.01, np.float32), bias)
    return _model(w, x, w.activation(int8_conv(w, x, plan, None, attributes, "y"), reach, "result"), made)


def _attention_model(heads: Heads, form: Form) -> bytes:
    w = GraphWriter()
    x = _input((heads.windows, heads.heads, max(heads.queries, heads.keys), heads.width))
    keys = _first_rows(w, x, heads.keys)
    queries = _first_rows(w, x, heads.queries)
    if form is Form.FLOAT:
        made, _ = float_core(w, queries, keys, keys, Added(), "y")
    else:
        scale = 1.0 / 255.0 if form is Form.STATIC else None
        plan = AttentionPlan(Affine(0.02, 128), 0.02, 0.02, scale)
        made, _ = int8_core(w, queries, keys, keys, plan, Added(), "y")
    return _model(w, x, made, (heads.windows, heads.heads, heads.queries, heads.width))


def _first_rows(w: GraphWriter, x: ir.Value, rows: int) -> ir.Value:
    bounds = [np.asarray([bound], np.int64) for bound in (0, rows, 2)]
    return w.op("Slice", [x, *(w.shared(bound, "bound") for bound in bounds)], "rows")


def _input(shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def _model(w: GraphWriter, x: ir.Value, made: ir.Value, shape: tuple[int, ...]) -> bytes:
    made.shape, made.dtype = ir.Shape(shape), ir.DataType.FLOAT
    initializers = list(w.initializers.values())
    graph = ir.Graph(
        [x], [made], nodes=w.nodes, initializers=initializers, opset_imports={"": WRITTEN.opset}, name="layer"
    )
    return bytes(ir.to_proto(ir.Model(graph, ir_version=WRITTEN.ir)).SerializeToString())


def _timed(models: Mapping[Form, bytes], shape: tuple[int, ...]) -> dict[Form, float]:
    entries = SESSION_OPTIONS.items()
    feed = {"x": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}

    def running(model: bytes) -> Callable[[], object]:
        session = cpu_session(model, entries, threads=1)
        return lambda: session.run(None, feed)

    return settled({form: running(model) for form, model in models.items()}, clock())


def clock() -> Callable[[], float]:
    """The processor time of this thread, in seconds; where that is coarse, the time of the wall."""
    fine = time.get_clock_info("thread_time").resolution <= FINE_CLOCK
    return time.thread_time if fine else time.perf_counter


def settled(runs: Mapping[Form, Callable[[], object]], now: Callable[[], float]) -> dict[Form, float]:
    """The least milliseconds of each, timed in turn until no minimum falls any more.

    Args:
        runs: what is timed.
        now: a clock, seconds.
    """
    best, quiet, done = dict.fromkeys(runs, math.inf), 0, 0
    while done < MOST_ROUNDS and (done < ROUNDS or quiet < QUIET_ROUNDS):
        before = dict(best)
        for form, run in runs.items():
            for _ in range(RUNS):
                start = now()
                run()
                best[form] = min(best[form], (now() - start) * 1e3)
        fell = any(best[form] < FALLEN * before[form] for form in runs)
        quiet, done = 0 if fell else quiet + 1, done + 1
    return best
