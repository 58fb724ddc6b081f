"""The comparison with everybody's quantizers: what is told of each, without network and on tiny models."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tools.peers import __main__ as peers
from tools.peers import comparison, making
from tools.peers.catalogue import ENGINES, ENVIRONMENTS, VARIANTS, Variant
from tools.peers.comparison import FLOAT, Stage, answers_of, entries_of, times_of
from tools.peers.environments import Installed
from tools.peers.lines import lines_of
from tools.peers.making import Given, quantized
from tools.peers.measure import Onnx
from tools.peers.serving import SERVE, Served, times_in_turn
from tools.peers.workshop import Workshop
from vit_edge.errors import ModelError

DATA = Path(__file__).parent.parent / "data"
PYTHON = Path(sys.executable)
RECIPE = '''
import numpy

class Helper:
    """Words that are not counted."""

    factor = 2  # nor is this comment


def twice(image):

    return Helper.factor * image


def unused(): return 0


def good(job):
    """Not counted."""
    image = twice(
        job.calibration[0]
    )
    (job.output / "model.onnx").write_bytes(image.tobytes())


def refuses(job):
    raise ValueError("no such operator\\nand more words")


def forgets(job): pass


def spins(job):
    print("layer 1\\r\\x1b[32mlayer 2\\x1b[0m\\n", flush=True)
    while True: pass


def ends(job):
    import os
    os._exit(3)
'''


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "peer.py").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(making, "RECIPES", folder)
    return folder / "peer.py"


@pytest.fixture
def given(tmp_path: Path) -> Given:
    np.save(tmp_path / "calibration.npy", np.ones((2, 3, 4, 4), np.float32))
    return Given(tmp_path / "float.onnx", tmp_path, tmp_path, tmp_path / "calibration.npy", None)


def variant(function: str) -> Variant:
    return Variant("peer", "peer", "peer", function, "defaults")


# Helper's two lines, three of twice and the four of good
def test_the_lines_of_a_recipe_are_those_of_all_that_it_uses(recipes: Path) -> None:
    assert lines_of(recipes, "good") == 2 + 2 + 5
    assert lines_of(recipes, "refuses") == 2


def test_lines_of_no_function_are_not_counted(recipes: Path) -> None:
    with pytest.raises(KeyError, match="absent"):
        lines_of(recipes, "absent")


def test_a_recipe_runs_once_and_tells_what_it_took(recipes: Path, given: Given, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "models", {})
    place, info = quantized(variant("good"), PYTHON, {}, given, workshop, 60)
    assert np.frombuffer((place / "model.onnx").read_bytes(), np.float32).tolist() == [2.0] * 48
    assert info["error"] is None
    assert info["seconds"] >= 0
    assert info["cpu_seconds"] > 0
    assert info["peak_mb"] > 1
    recipes.write_text(RECIPE + "\n# another recipe is another model\n", encoding="utf-8")
    assert quantized(variant("good"), PYTHON, {}, given, workshop, 60)[0] != place
    recipes.write_text(RECIPE, encoding="utf-8")
    assert quantized(variant("good"), Path("/nowhere/python"), {}, given, workshop, 60)[0] == place


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("refuses", "ValueError: no such operator"),
        ("forgets", "it wrote no model.onnx"),
        ("spins", "it took longer than 2 s of the processor; its last line: layer 2"),
        ("ends", "the quantizer ended with status 3 and without a word"),
        ("absent", "AttributeError: module 'peer_recipe' has no attribute 'absent'"),
    ],
)
@pytest.mark.usefixtures("recipes")
def test_a_recipe_that_makes_nothing_leaves_a_reason(
    given: Given, tmp_path: Path, function: str, reason: str
) -> None:
    place, info = quantized(variant(function), PYTHON, {}, given, Workshop(tmp_path / "models", {}), 2)
    assert reason in info["error"]
    assert not (place / "model.onnx").exists()


def test_every_quantizer_has_its_environment_its_recipe_and_its_engines() -> None:
    assert len({entry.name for entry in VARIANTS}) == len(VARIANTS)
    for entry in VARIANTS:
        assert entry.environment in ENVIRONMENTS
        assert lines_of(making.RECIPES / f"{entry.recipe}.py", entry.function) > 1
        for engine in entry.engines:
            assert ENGINES[engine].environment in ENVIRONMENTS
            assert (SERVE.parent / f"{ENGINES[engine].module}.py").is_file()
    for environment in ENVIRONMENTS.values():
        assert all("==" in package or package == "vit-edge[host]" for package in environment.packages)


def test_quantizers_are_chosen_by_environment_and_left_out_by_name() -> None:
    assert peers.chosen([]) == list(VARIANTS)
    nncf = peers.chosen(["nncf"], ["NNCF, accuracy control"])
    assert {entry.environment for entry in nncf} == {"nncf"}
    assert "NNCF, accuracy control" not in {entry.name for entry in nncf}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name --source, --calib, --data and -o"),
        (["--only", "nobody"], "nothing is called 'nobody'"),
        (["--skip", "nobody's"], 'nothing is called "nobody\'s"'),
        (["-o", "/nowhere/results.json"], "cannot be written"),
        (["--rounds", "0"], "--rounds 0: give 1 or more"),
        (["--limit-s", "-1"], "--limit-s -1: give 1 or more"),
        (["--source", "/nowhere"], "/nowhere"),
        (["--source", str(DATA / "dynamic.onnx")], "which the recipes open"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    complete = (
        ["--source", "a", "--calib", "a", "--data", "a", "-o", str(tmp_path / "r.json")] if words else []
    )
    assert peers.main([*complete, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("peers: ")
    assert reason in said
    assert len(said.splitlines()) == 1


def test_a_model_in_a_process_of_its_own_answers_as_one_in_this(tmp_path: Path) -> None:
    images = np.random.default_rng(5).normal(size=(3, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", images)
    with Served(PYTHON, "onnxruntime_engine", DATA / "dynamic.onnx", tmp_path / "inputs.npy") as served:
        logits = served.logits(tmp_path / "logits.npy")
        times = times_in_turn([served, served], 2)
        process = served.process
    here = np.concatenate([Onnx(DATA / "dynamic.onnx").infer(image[None]) for image in images])
    np.testing.assert_array_equal(logits, here)
    assert served.version.startswith("onnxruntime ")
    assert times.shape == (2, 2)
    assert (times > 0).all()
    assert process.returncode is not None


@pytest.mark.parametrize(
    ("engine", "model", "reason"),
    [
        ("onnxruntime_engine", "labels.txt", "labels.txt"),
        ("no_engine", "dynamic.onnx", "No module named 'no_engine'"),
    ],
)
def test_a_model_that_an_engine_does_not_take_is_refused_in_its_words(
    tmp_path: Path, engine: str, model: str, reason: str
) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros((1, 3, 8, 8), np.float32))
    (tmp_path / "labels.txt").write_text("no model")
    place = tmp_path / model if model == "labels.txt" else DATA / model
    with pytest.raises(ModelError, match=reason):
        Served(PYTHON, engine, place, tmp_path / "inputs.npy")


def test_of_a_long_refusal_both_ends_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(ModelError, match=r"^No module named 'eee.+e \.\.\. e.+eee'$") as refused:
        Served(PYTHON, "e" * 400, DATA / "dynamic.onnx", tmp_path / "inputs.npy")
    assert len(str(refused.value)) == 305


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """One environment, this one; that of OpenVINO could not be installed."""
    monkeypatch.setattr(comparison, "python_of", lambda *_: PYTHON)
    images = np.random.default_rng(7).normal(size=(4, 3, 8, 8)).astype(np.float32)
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "inputs.npy", images)
    there = Installed((), "json", None, 1.0, 0.1, {"onnxruntime": "here"})
    installed = {
        "onnxruntime": there,
        "nncf": Installed((), "nncf", "no wheel for this Python", 0.0, None, {}),
    }
    return Stage(
        tmp_path, installed, Workshop(tmp_path / "models", {}), tmp_path / "inputs" / "inputs.npy", 60
    )


def test_who_makes_a_file_has_figures_in_each_engine_and_who_does_not_a_reason(
    stage: Stage, tmp_path: Path
) -> None:
    given = Given(DATA / "dynamic.onnx", tmp_path, tmp_path, stage.inputs, None)
    dynamic = Variant(
        "dynamic", "onnxruntime", "onnxruntime_tools", "dynamic", "", engines=("onnxruntime", "OpenVINO")
    )
    gone = Variant("gone", "nncf", "nncf_tools", "onnx_file", "")
    entries, absent = entries_of(given, stage, [dynamic, gone])
    assert [(entry.name, entry.engine) for entry in entries] == [
        (FLOAT, "onnxruntime"),
        ("dynamic", "onnxruntime"),
        ("dynamic", "OpenVINO"),
    ]
    assert [(each["name"], each["note"]) for each in absent] == [("gone", "no wheel for this Python")]
    assert entries[1].info["recipe"] == "tools/peers/recipes/onnxruntime_tools.py:dynamic"
    answered, refused = answers_of(entries, stage)
    assert [entry.name for entry, _ in answered] == [FLOAT, "dynamic"]
    assert all(logits.shape == (4, 3) for _, logits in answered)
    assert answered[1][0].info["engine"].startswith("onnxruntime ")
    assert [each["note"] for each in refused] == [
        "OpenVINO does not run it: OpenVINO is not there: no wheel for this Python"
    ]
    times, loads = times_of([entry for entry, _ in answered], stage, 2)
    assert times.shape == (2, 2)
    assert len(loads["load_average_before"]) == 3
