"""The embedded model's float and INT8 files in other engines, and the bookkeeping of their table."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.package.digits import FLOAT as FLOAT_FILE
from tests.package.digits import INT8 as INT8_FILE
from tests.package.digits import Digits
from tests.tools.refusal import Refusal
from tools.engines.__main__ import ROUNDINGS, joined, main
from tools.engines.catalogue import ENGINES, Engine, default_cache
from tools.engines.job import Answer, Answers, Floats, lay_out, run
from tools.engines.rounding import ULP, Rounding
from tools.engines.table import FLOAT, INT8, closeness, figures, markdown, read_record, sqnr_db
from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs
COUNT = 40
NO_DEVICE = "the plugin offers no device on this machine"
REFUSES_INT8 = {"MNN": "mnnconvert aborts: what():  vector::_M_range_check"}  # a Gemm of quantized operands


@pytest.fixture(scope="module")
def models(digits: Digits) -> tuple[list[ModelFile], np.ndarray]:
    """The float and the portable INT8 file with a dynamic batch, and test images (40, 32, 32, 3)."""
    found = [read_model(digits.bundle / name) for name in (FLOAT_FILE, INT8_FILE)]
    preprocess = found[0].preprocess
    assert preprocess is not None
    paths = list_images(digits.images / "test").paths[::10][:COUNT]
    return found, np.stack([load_pixels(path, preprocess) for path in paths])


COARSER_FLOAT = {"MNN": 1e-3}  # 2.4e-4 was seen


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_an_engine_loads_the_dynamic_batch_and_answers_as_onnxruntime_here(
    engine: Engine, models: tuple[list[ModelFile], np.ndarray], tmp_path: Path
) -> None:
    reason = engine.missing(CACHE)
    if reason is not None:
        pytest.skip(reason)
    files, pixels = models
    lay_out(tmp_path, files, pixels, rounds=2)
    found = run(engine.command(CACHE), tmp_path)
    if found.models[FLOAT].error == NO_DEVICE:
        pytest.skip(NO_DEVICE)
    float_most = COARSER_FLOAT.get(engine.name, 1e-4)
    for place, most in ((FLOAT, float_most), (INT8, 0.1)):  # INT8: values next to the middle of two steps
        answer = found.models[place]
        if place == INT8 and engine.name in REFUSES_INT8:
            assert (answer.error or "").startswith(REFUSES_INT8[engine.name])
            continue
        assert answer.error is None
        assert answer.logits is not None
        assert len(answer.ms) == 2
        expected = Session(files[place], SessionSettings("cpu")).run(pixels)
        close = closeness(answer.logits, expected)
        assert close["same_class"] >= 97.5  # at most one of 40 next to a tie
        assert close["largest_probability_difference"] <= most


def answers(*models: Answer) -> Answers:
    return Answers("toy 1", models)


def ran(*rows: list[float], ms: tuple[float, ...] = (2.0,)) -> Answer:
    logits: Floats = np.asarray(rows, np.float32)
    return Answer(None, logits, ms)


def test_figures_compare_classes_probabilities_and_times() -> None:
    plain, int8 = ran([0.0, 5.0], [3.0, 0.0]), ran([0.0, 5.0], [0.0, 0.1], ms=(1.0,))
    reference = answers(plain, ran([0.0, 5.0], [3.0, 0.0]))
    found = figures(answers(plain, int8), reference)
    assert found["float"]["same_class"] == 100
    assert found["float"]["largest_probability_difference"] == 0
    assert found["int8"]["same_class"] == 50
    assert found["int8"]["largest_probability_difference"] == pytest.approx(
        1 / (1 + np.exp(-3)) - 0.475, abs=1e-3
    )
    assert found["int8_to_float_latency"] == 0.5
    assert found["int8"]["same_class_as_float"] == 50


def test_an_engine_that_refuses_a_file_gets_a_row_with_its_words() -> None:
    reference = answers(ran([1.0, 0.0]), ran([1.0, 0.0]))
    found = figures(answers(ran([1.0, 0.0]), Answer("no such | operator", None, ())), reference)
    assert found["int8"] == {"loads": False, "error": "no such | operator"}
    assert found["int8_to_float_latency"] is None
    rows = {"toy": found, "other": {"skipped": "needs node"}}
    table = markdown({"images": 1, "machine": {"cpu": "a CPU", "flags": ["avx2"]}, "engines": rows})
    assert "no: no such / operator" in table
    assert "not run: needs node" in table


def test_noise_is_told_in_decibels_and_same_bits_as_such() -> None:
    """1 of 100 in power are 20 dB."""
    exact = np.asarray([[10.0, 0.0]], np.float32)
    assert sqnr_db(exact + np.asarray([[0.0, 1.0]], np.float32), exact) == 20
    assert sqnr_db(exact, exact) is None
    same = figures(answers(ran([3.0, 0.0]), ran([1.0, 0.0])), answers(ran([3.0, 0.0]), ran([2.0, 0.0])))
    table = markdown({"images": 1, "machine": {"cpu": "a CPU", "flags": []}, "engines": {"toy": same}})
    assert "| same bits | 6.0 dB |" in table


@pytest.mark.parametrize("place", [FLOAT, INT8])
def test_other_roundings_move_gains_and_shifts_by_last_bits_and_nothing_else(
    place: int, models: tuple[list[ModelFile], np.ndarray]
) -> None:
    file = models[0][place]
    before, after = (onnx.load_from_string(each.data) for each in (file, Rounding(4.0, 0).of(file)))
    norms = {
        name for node in before.graph.node if node.op_type == "LayerNormalization" for name in node.input[1:]
    }
    assert len(norms) > 2
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        ours, theirs = numpy_helper.to_array(old), numpy_helper.to_array(new)
        if old.name not in norms:
            np.testing.assert_array_equal(theirs, ours)
            continue
        assert not np.array_equal(theirs, ours)
        np.testing.assert_allclose(theirs, ours, rtol=6 * 4 * ULP)  # six standard deviations
    assert before.graph.node == after.graph.node


def test_a_model_without_normalizations_has_no_other_roundings() -> None:
    with pytest.raises(ModelError, match="has no normalization whose gains could be off"):
        Rounding(1.0, 0).of(read_model(DATA / "plain.onnx"))


def test_every_engine_and_rounding_has_a_name_of_its_own() -> None:
    names = [*(engine.name for engine in ENGINES), *(each.name for each in ROUNDINGS)]
    assert len(set(names)) == len(names)


TOY = {"files": {"a": "1"}, "images": 2, "engines": {"toy": {"skipped": "x"}, "tract": {"skipped": "y"}}}


def test_rows_of_other_engines_are_kept_in_the_order_of_the_catalogue() -> None:
    new = {
        "files": {"a": "1"},
        "images": 2,
        "engines": {"OpenVINO": {"skipped": "z"}, "tract": {"skipped": "w"}},
    }
    assert list(joined(TOY, new)["engines"].items()) == [
        ("OpenVINO", {"skipped": "z"}),
        ("tract", {"skipped": "w"}),
        ("toy", {"skipped": "x"}),
    ]


@pytest.mark.parametrize(("key", "value"), [("files", {"a": "2"}), ("images", 3)])
def test_figures_of_other_files_or_images_are_not_joined(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"holds figures of another {key}; choose another output"):
        joined(TOY, {**TOY, key: value})


def test_an_output_of_other_files_is_refused_before_an_engine_runs(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "engines.json"
    machine = {"cpu": "a CPU", "flags": []}
    output.write_text(json.dumps({"files": {}, "images": 2, "machine": machine, "engines": {}}))
    monkeypatch.setattr("tools.engines.__main__.run", lambda *_: pytest.fail("an engine ran"))
    assert main([str(digits.bundle), "--images", str(digits.images / "test"), "-o", str(output)]) == 2
    assert "the output holds figures of another" in capsys.readouterr().err


def test_a_reference_that_does_not_run_is_refused() -> None:
    with pytest.raises(UsageError, match="does not run the int8 model: broken"):
        figures(
            answers(ran([1.0, 0.0]), ran([1.0, 0.0])), answers(ran([1.0, 0.0]), Answer("broken", None, ()))
        )


def test_a_worker_that_ends_early_is_the_answer_for_every_model(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"models": ["a", "b"], "shape": [1, 3]}))
    found = run(["sh", "-c", "echo first >&2; echo it broke >&2; exit 3"], tmp_path)
    assert [answer.error for answer in found.models] == ["it broke", "it broke"]


def test_logits_that_are_not_finite_are_an_answer_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"models": ["a"], "shape": [1, 2]}))
    np.asarray([[1.0, np.nan]], np.float32).tofile(tmp_path / "logits.0.bin")
    made = {"version": "toy 1", "models": [{"error": None, "ms": [1.0]}]}
    (tmp_path / "result.json").write_text(json.dumps(made))
    (answer,) = run(["true"], tmp_path).models
    assert (answer.error, answer.logits, answer.ms) == ("its logits are not finite", None, ())


def test_models_of_different_inputs_make_no_job(tmp_path: Path) -> None:
    models = [read_model(DATA / name) for name in ("plain.onnx", "pixels.onnx")]
    with pytest.raises(ModelError, match="do not take the same images"):
        lay_out(tmp_path, models, np.zeros((1, 12, 14, 3), np.uint8), 1)


def test_without_its_program_or_environment_an_engine_says_what_is_missing(tmp_path: Path) -> None:
    assert ENGINES[0].missing(tmp_path) == (
        "its environment is not there: python -m tools.engines --prepare makes it"
    )
    odd = Engine("odd", "browser.py", ("x",), program="no-such-browser")
    assert odd.missing(tmp_path) == "needs no-such-browser"
    with pytest.raises(UsageError, match="odd needs no-such-browser"):
        odd.prepare(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a bundle, --images and -o"),
        (["b", "--engine", "steam"], "no engine is called 'steam'; known are onnxruntime 1.17"),
        (["--table", "absent.json"], "absent.json is no record of this tool"),
        (["absent", "--images", ".", "-o", "x.json"], "absent"),
    ],
)
def test_bad_words_are_refused_in_one_line(words: list[str], said: str, refusal: Refusal) -> None:
    assert said in refusal(main, words)


@pytest.mark.parametrize("name", ["engines_vnni", "engines_as_avx2"])
def test_the_table_in_the_manual_is_that_of_the_recorded_figures(name: str) -> None:
    record = read_record(ROOT / "models" / "results" / f"{name}.json")
    assert markdown(record) in (ROOT / "docs" / "engines.md").read_text()
