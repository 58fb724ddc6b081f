"""Forms of parts of a block: what they compute, and how a profile is summed."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.package.digits import INT8, Digits
from tests.tools.refusal import Refusal
from tools.bench_parts import KINDS, REST, main, medians, shares_of, timed
from tools.parts import PARTS, Sizes
from vit_edge.host.ort import cpu_session
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.runtime.measure.timing import Rounds

SIZES = Sizes(tokens=17, dim=64, heads=2)
STEPS = {"first product and GELU": 4, "queries, keys, values": 1}  # by which codes may differ


def outputs(part: str, form: str) -> list[np.ndarray]:
    session = cpu_session(PARTS[part].forms[form](SIZES), SESSION_OPTIONS.items(), threads=1)
    return [np.asarray(made) for made in session.run(None, {"x": PARTS[part].given(SIZES)})]


@pytest.mark.parametrize(("part", "form"), [(part, form) for part in PARTS for form in PARTS[part].forms])
def test_every_form_of_a_part_gives_what_the_first_gives(part: str, form: str) -> None:
    first = next(iter(PARTS[part].forms))
    for expected, made in zip(outputs(part, first), outputs(part, form), strict=True):
        assert made.dtype == expected.dtype
        assert made.shape == expected.shape
        assert np.ptp(expected.astype(np.float64)) > 1
        if part in STEPS:
            assert np.abs(made.astype(int) - expected.astype(int)).max() <= STEPS[part]
        else:
            np.testing.assert_allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "form", "operator"),
    [
        ("first product and GELU", "x * sigmoid(1.702 x) in codes", "QLinearSigmoid"),
        ("first product and GELU", "x * sigmoid(1.702 x) in codes", "QLinearMul"),
        ("first product and GELU", "tanh form of real numbers", "QGemm"),
        ("queries, keys, values", "one product in codes, bytes are moved", "QLinearConv"),
        ("queries, keys, values", "two products, codes behind the queries' one", "QGemm"),
        ("normalization", "root mean square of rows without a mean", "SimplifiedLayerNormalization"),
    ],
)
def test_onnxruntime_runs_a_form_by_the_operator_it_is_meant_for(
    part: str, form: str, operator: str, tmp_path: Path
) -> None:
    model = PARTS[part].forms[form](SIZES)
    cpu_session(model, SESSION_OPTIONS.items(), threads=1, optimised=tmp_path / "runs.onnx")
    ran = {node.op_type for node in onnx.load(tmp_path / "runs.onnx").graph.node}
    assert operator in ran
    assert not ran & {"Gemm", "Conv", "MatMul"}


def test_a_profile_is_the_median_of_each_node_without_the_first_runs() -> None:
    events = [
        {"cat": "Node", "name": "a_kernel_time", "dur": took, "args": {"op_name": "Gelu"}}
        for took in (900, 900, 900, 5, 7, 6)
    ]
    others = [
        {"cat": "Node", "name": "a_fence_before", "dur": 1, "args": {"op_name": "Gelu"}},
        {"cat": "Session", "name": "run", "dur": 1, "args": {}},
    ]
    assert medians([*events, *others]) == {("Gelu", "a_kernel_time"): 6.0}


def test_operators_are_summed_by_what_they_do_and_none_is_left_out() -> None:
    nodes = {("QGemm", "a"): 60.0, ("QLinearMatMul", "b"): 20.0, ("Gelu", "c"): 15.0, ("Unheard", "d"): 5.0}
    found = {share.kind: (share.operators, share.share) for share in shares_of(nodes)}
    assert found == {"integer products": (2, 0.8), "GELU": (1, 0.15), REST: (1, 0.05)}


def test_no_operator_is_of_two_kinds() -> None:
    names = [name for names in KINDS.values() for name in names.split()]
    assert len(names) == len(set(names))


def test_what_a_form_saves_is_told_against_the_first_one_and_for_both_normalizations() -> None:
    first, *others = timed("normalization", SIZES, Rounds(5, 0.0), 1e-6)
    assert first.saves == 0
    for other in others:
        assert other.saves == pytest.approx((first.median_microseconds - other.median_microseconds) * 2e-6)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    said = refusal(main, [str(tmp_path / "x.onnx"), "-o", str(tmp_path / "o.json")])
    assert "x.onnx" in said
    assert not (tmp_path / "o.json").exists()


def test_shares_and_forms_of_a_file_are_written(
    digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.json"
    sizes = ["--tokens", "17", "--dim", "64", "--heads", "2", "--depth", "6"]
    assert (
        main(
            [
                str(digits.bundle / INT8),
                *sizes,
                "--runs",
                "3",
                "--rounds",
                "3",
                "--seconds",
                "0",
                "-o",
                str(out),
            ]
        )
        == 0
    )
    told = json.loads(out.read_text())
    assert sum(share["share"] for share in told["shares"]) == pytest.approx(1)
    assert told["shares"][0]["operators"] > 0
    assert {form["part"] for form in told["forms"]} == set(PARTS)
    assert "integer products" in capsys.readouterr().out
