"""What is read from quantized files, ours or not, against what numpy finds."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.host.report.models import (
    CLASSES,
    SIDE,
    SPEC,
    coded,
    constants,
    float_nodes,
    model,
    pictures,
    qdq_nodes,
    row_nodes,
    weights,
)
from vit_edge.errors import ModelError
from vit_edge.host.report.operands import QuantizedGraph, RangeKind
from vit_edge.host.report.ranges import Ranges, observe_ranges
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.runtime.model.file import read_model

SCALE, ZERO = 0.003, 20


def rows() -> np.ndarray:
    """(images, 24, 8) float64: what the layer reads."""
    return normalize(pictures(), SPEC).reshape(-1, 3 * SIDE, SIDE).astype(np.float64)


def quantized(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """There and back through uint8."""
    step = float(np.float32(scale))
    return np.asarray((np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step)


def sqnr_db(values: np.ndarray, restored: np.ndarray) -> float:
    return 10 * math.log10(np.square(values).sum() / np.square(values - restored).sum())


def test_a_static_range_is_read_and_what_it_clips_is_counted(tmp_path: Path) -> None:
    found = observe_ranges(model(tmp_path, qdq_nodes(), constants(SCALE, ZERO)), SPEC, pictures())
    (one,), values = found.activations, rows()
    assert (one.layer, one.second, one.kind, found.images) == ("layer", False, RangeKind.STATIC, 3)
    assert one.range == pytest.approx((-20 * SCALE, 235 * SCALE))
    assert one.seen == pytest.approx((values.min(), values.max()))
    assert one.clipped == pytest.approx(np.mean(values > 235.5 * SCALE), abs=2e-3)
    assert one.sqnr_db == pytest.approx(sqnr_db(values, quantized(values, SCALE, ZERO)), abs=0.01)
    reach = values.max(axis=2)
    assert one.row_reach == pytest.approx((np.median(reach), reach.max()))


def test_the_histogram_holds_every_value_where_it_lies(tmp_path: Path) -> None:
    (one,) = observe_ranges(
        model(tmp_path, qdq_nodes(), constants(SCALE, ZERO)), SPEC, pictures()
    ).activations
    counts, _ = np.histogram(rows().astype(np.float32), np.linspace(*one.edges, len(one.counts) + 1))
    assert one.counts == tuple(counts.tolist())
    assert sum(one.counts) == rows().size
    assert len(one.counts) <= 66


def test_a_scale_per_row_is_recognised_and_judged_on_the_rows_themselves(tmp_path: Path) -> None:
    step = 1 / 255
    (one,) = observe_ranges(model(tmp_path, row_nodes(), constants(step, 0)), SPEC, pictures()).activations
    values = rows()
    reach = np.abs(values).max(axis=2, keepdims=True)
    assert (one.kind, one.range) == (RangeKind.PER_TOKEN, None)
    assert one.seen == pytest.approx((values.min(), values.max()))
    assert one.sqnr_db == pytest.approx(sqnr_db(values, quantized(values / reach, step, 0) * reach), abs=0.02)
    assert one.clipped == 0


def test_weights_are_read_per_output_channel(tmp_path: Path) -> None:
    found = observe_ranges(model(tmp_path, qdq_nodes(), constants(SCALE, ZERO)), SPEC, pictures())
    (weight,) = found.weights
    codes, scale = coded()
    assert weight.channels == CLASSES
    assert weight.reaches == pytest.approx(np.sort(np.abs(codes * scale).max(axis=0)))
    assert found.weight_of("layer") == weight
    assert found.weight_of("another") is None


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One batch of the pictures."""

    def __init__(self) -> None:
        self.batches = iter([{"pixel_values": normalize(pictures(), SPEC)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def by_onnxruntime(folder: Path, form: str) -> Ranges:
    """The float model as onnxruntime's own quantizers write it, observed."""
    source = model(folder, float_nodes(), {"w": weights()}).path
    target = folder / "quantized.onnx"
    if form == "dynamic":
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    else:
        quantize_static(source, target, Reader(), QuantFormat[form], ["MatMul"], per_channel=True)
    return observe_ranges(read_model(target), SPEC, pictures())


@pytest.mark.parametrize("form", ["dynamic", "QDQ", "QOperator"])
def test_files_of_onnxruntimes_quantizers_are_understood(tmp_path: Path, form: str) -> None:
    found = by_onnxruntime(tmp_path, form)
    (one,), (weight,), values = found.activations, found.weights, rows()
    assert one.layer == weight.layer
    assert one.seen == pytest.approx((values.min(), values.max()))
    high = max(values.max(), 0.0)  # zero belongs to every range; calibration saw these very pictures
    assert one.clipped == 0
    assert one.sqnr_db == pytest.approx(sqnr_db(values, quantized(values, high / 255, 0)), abs=0.6)
    if form == "dynamic":
        assert (one.kind, one.range) == (RangeKind.IMAGE, None)
    else:
        assert one.range == pytest.approx((0.0, high), abs=high / 100)
    widest = float(np.abs(weights()).max())
    assert weight.reaches[-1] == pytest.approx(widest, abs=widest / 127)
    assert weight.channels == CLASSES


def test_the_worst_are_those_with_the_least_signal_over_noise(tmp_path: Path) -> None:
    fine = observe_ranges(model(tmp_path, qdq_nodes(), constants(1 / 255, 0)), SPEC, pictures())
    coarse = observe_ranges(model(tmp_path, qdq_nodes(), constants(1 / 16, 0)), SPEC, pictures())
    both = Ranges(3, (*fine.activations, *coarse.activations), ())
    assert both.worst(1) == list(coarse.activations)
    assert both.worst(9) == [*coarse.activations, *fine.activations]


def test_a_model_that_quantizes_nothing_has_no_ranges(tmp_path: Path) -> None:
    found = observe_ranges(model(tmp_path, float_nodes(), {"w": weights()}), SPEC, pictures())
    assert (found.activations, found.weights) == ((), ())


def test_exact_values_have_no_noise(tmp_path: Path) -> None:
    exact = np.full((1, SIDE, SIDE, 3), 255, np.uint8)  # 1.0 everywhere
    (one,) = observe_ranges(model(tmp_path, qdq_nodes(), constants(1.0, 0)), SPEC, exact).activations
    assert one.sqnr_db == math.inf
    assert one.to_json()["sqnr_db"] is None


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Log", ["rows"], ["logged"]), *qdq_nodes("logged")]
    black = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    with pytest.raises(ModelError, match=r"m\.onnx computes values that are not finite before layer"):
        observe_ranges(model(tmp_path, nodes, constants(SCALE, ZERO)), SPEC, black)


def test_a_model_that_fails_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["rows", "bad"], ["moved"]), *qdq_nodes("moved")]
    broken = model(tmp_path, nodes, constants(SCALE, ZERO) | {"bad": np.asarray([7, 8], np.int64)})
    with pytest.raises(ModelError, match=r"m\.onnx (fails while it is|cannot be) observed"):
        observe_ranges(broken, SPEC, pictures())


def node(kind: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("QuantizeLinear", ["x", "s", "z"], "q"), node("Softmax", ["q"], "y")], []),
        ([node("QuantizeLinear", ["x", "many", "z"], "q"), node("MatMul", ["q", "x"], "y")], []),
        ([node("QuantizeLinear", ["x", "x", "z"], "q"), node("MatMul", ["q", "x"], "y")], []),
        ([node("QuantizeLinear", ["s", "s", "z"], "q"), node("MatMul", ["q", "x"], "y")], []),
        ([node("QuantizeLinear", ["x", "s"], "q"), node("MatMul", ["x", "q"], "y")], [("y", True)]),
        (
            [
                node("QuantizeLinear", ["x", "s", "z"], "q"),
                node("DequantizeLinear", ["q", "s", "z"], "dq"),
                node("Transpose", ["dq"], "t"),
                node("MatMul", ["x", "t"], "y"),
            ],
            [("y", True)],
        ),
    ],
    ids=["no product", "a scale per channel", "a scale at run time", "a constant", "no zero point", "moved"],
)
def test_only_operands_of_products_with_one_known_scale_count(
    nodes: list[onnx.NodeProto], expected: list[tuple[str, bool]]
) -> None:
    tensors = {"s": np.float32(0.1), "z": np.uint8(3), "many": np.ones(4, np.float32)}
    graph = helper.make_graph(
        nodes, "g", [], [], [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
    )
    found = QuantizedGraph(helper.make_model(graph)).operands()
    assert [(each.layer, each.second) for each in found] == expected
