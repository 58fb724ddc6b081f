"""GELU of codes in an INT8 file: where it goes, what it computes, what it costs."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from scipy.special import erf

from tests.package.digits import FLOAT, INT8, Digits
from tests.tools.refusal import Refusal
from tools.integer_gelu import gelus_of, in_codes, main, of_range, with_codes
from vit_edge.host.affine import Affine
from vit_edge.host.ort import cpu_session

VALUES = np.random.default_rng(0).normal(0, 1.5, 20_000)
GELU = VALUES * (1 + erf(VALUES / np.sqrt(2))) / 2
BEHIND = Affine.of(float(GELU.min()), float(GELU.max()))


def test_gelu_of_codes_is_within_its_fit_and_three_steps_of_gelu() -> None:
    before = Affine.of(float(VALUES.min()), float(VALUES.max()))
    largest = 0.021 + 1.13 * before.scale / 2 + np.abs(VALUES).max() / 510 + BEHIND.scale / 2
    assert np.abs(in_codes(VALUES, before, BEHIND) - GELU).max() < largest


def test_the_range_in_front_is_the_best_of_those_tried_and_never_better_than_exact_gelu() -> None:
    found = of_range("act", BEHIND, VALUES)
    whole = Affine.of(float(VALUES.min()), float(VALUES.max()))
    power, error = np.sum(GELU**2), np.sum((in_codes(VALUES, whole, BEHIND) - GELU) ** 2)
    assert found.exact_db > found.codes_db >= 10 * np.log10(power / error)


def one_gelu() -> onnx.ModelProto:
    """Real numbers in, codes behind their GELU out."""
    constants = {"scale": np.float32(BEHIND.scale), "zero": np.uint8(BEHIND.zero_point)}
    graph = helper.make_graph(
        [
            helper.make_node("Gelu", ["x"], ["y"], "act"),
            helper.make_node("QuantizeLinear", ["y", "scale", "zero"], ["codes"]),
        ],
        "gelu",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("codes", onnx.TensorProto.UINT8, [None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_onnxruntime_computes_what_was_predicted_by_its_operators_of_codes(tmp_path: Path) -> None:
    model = one_gelu()
    ((name, behind),) = gelus_of(model)
    assert name == "act"
    assert behind.zero_point == BEHIND.zero_point
    found = of_range("act", BEHIND, VALUES)
    changed = with_codes(model, [found]).SerializeToString()
    session = cpu_session(changed, threads=1, optimised=tmp_path / "runs.onnx")
    ran = {node.op_type for node in onnx.load(tmp_path / "runs.onnx").graph.node}
    assert {"QLinearSigmoid", "QLinearMul"} <= ran
    (made,) = session.run(None, {"x": VALUES.astype(np.float32)})
    expected = BEHIND.codes(in_codes(VALUES, found.before, BEHIND))
    apart = np.abs(made.astype(np.float64) - expected)
    assert apart.max() <= 1
    assert np.mean(apart > 0) < 0.01


def test_a_model_is_left_as_it_is_where_no_gelu_is_chosen() -> None:
    assert with_codes(one_gelu(), []) == one_gelu()


def test_a_file_without_a_gelu_of_real_numbers_is_refused(
    digits: Digits, tmp_path: Path, refusal: Refusal
) -> None:
    images = str(digits.images)
    words = [
        str(digits.bundle / FLOAT),
        "--float",
        str(digits.bundle / FLOAT),
        "--calib",
        images,
        "--data",
        images,
    ]
    assert "has no GELU" in refusal(main, [*words, "-o", str(tmp_path / "o.json")])


def test_each_gelu_and_all_of_them_are_told(
    digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = str(digits.images), tmp_path / "o.json"
    words = ["--calib", images, "--data", images, "--calib-count", "4", "--count", "12", "-o", str(out)]
    assert main([str(digits.bundle / INT8), "--float", str(digits.bundle / FLOAT), *words]) == 0
    told = json.loads(out.read_text())
    count = len(told["gelus"])
    assert count > 1
    rows = {row["gelus"]: row for row in told["logits"]}
    assert rows["none"]["sqnr_db"] > rows[f"the {count} quietest"]["sqnr_db"]
    assert {gelu["name"] for gelu in told["gelus"]} < set(rows)
    assert all(gelu["exact_db"] > gelu["codes_db"] for gelu in told["gelus"])
    assert "none" in capsys.readouterr().out
