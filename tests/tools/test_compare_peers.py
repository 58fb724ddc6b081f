"""The comparison with other quantizers: its bookkeeping and figures, on tiny models and without the peers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tools import compare_peers
from tools.peers import openvino_tools
from tools.peers.measure import Contender, Onnx, all_logits, all_times, onnx_contender
from tools.peers.onnxruntime_tools import Calibration, onnxruntime_models
from tools.peers.ours import forms, presets
from tools.peers.report import HEADING, Measured, markdown, rounded, rows
from tools.peers.workshop import Made, Workshop, package_digest
from vit_edge.host.quantize.types import Preset
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.capabilities import Capabilities
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.spec import InputForm, Interpolation, PreprocessSpec, ResizeMode

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits_vit"
DATA = Path(__file__).parent.parent / "data"
# What the files in tests/data are made for
SPEC = PreprocessSpec(
    8, 8, ResizeMode.SHORT_SIDE, (10, 10), Interpolation.BICUBIC, (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
)
FLOAT = np.array([[4.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0], [5.0, 0.0, 0.0]], np.float32)
TARGETS = np.array([0, 1, 2, 1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (12, 14, 3), np.uint8)).save(folder / f"{index}.png")
    return tuple(sorted(folder.iterdir()))


class Still:
    """An engine that is never run."""

    def infer(self, inputs: np.ndarray) -> np.ndarray:
        raise AssertionError(f"not to be run on {inputs.shape}")


def contender(name: str) -> Contender:
    return Contender(name, Still(), InputForm.PIXEL_VALUES, 2_500_000, {"settings": "none"})


def measured(other: np.ndarray, names: tuple[str, ...] = ("float", "peer")) -> Measured:
    times = np.array([[10.0, 5.0], [20.0, 8.0], [10.0, 6.0]])
    return Measured([contender(name) for name in names], [FLOAT, other], TARGETS, times)


def test_a_model_is_made_once_per_recipe(tmp_path: Path) -> None:
    calls: list[int] = []

    def build() -> Made:
        calls.append(1)
        return Made({"model.onnx": b"weights"}, {"images": 3})

    for _ in range(2):
        place, info = Workshop(tmp_path, {"weights": "a"}).make({"name": "peer"}, build)
        assert (place / "model.onnx").read_bytes() == b"weights"
        assert info["images"] == 3
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("basis", "recipe"),
    [({"weights": "b"}, {"name": "peer"}), ({"weights": "a"}, {"name": "peer", "version": "2"})],
    ids=["other weights", "other version"],
)
def test_another_recipe_is_never_served_an_old_model(
    tmp_path: Path, basis: dict[str, str], recipe: dict[str, str]
) -> None:
    old, _ = Workshop(tmp_path, {"weights": "a"}).make({"name": "peer"}, lambda: Made({"m": b"old"}))
    new, _ = Workshop(tmp_path, basis).make(recipe, lambda: Made({"m": b"new"}))
    assert ((old / "m").read_bytes(), (new / "m").read_bytes()) == (b"old", b"new")


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails() -> Made:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        Workshop(tmp_path, {}).make({"name": "peer"}, fails)
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_the_package_changes_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    before = package_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("not code")
    assert package_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2")
    assert package_digest(tmp_path) != before


def test_the_figures_are_those_of_the_definitions() -> None:
    other = FLOAT.copy()
    other[0] = [1.0, 4.0, 0.0]  # right becomes wrong
    row = rows(measured(other), "peer")[1]
    assert row["top1"] == pytest.approx(50.0)
    assert row["drop"] == pytest.approx(25.0)
    assert row["agreement"] == pytest.approx(75.0)
    # signal 16+1+9+1+1+4+25, noise 9+9
    assert row["logit_sqnr_db"] == pytest.approx(10 * np.log10(57 / 18))
    assert (row["lost"], row["gained"]) == (1, 0)
    assert row["size_mb"] == pytest.approx(2.5)
    assert (row["min_ms"], row["median_ms"]) == (5.0, 6.0)
    assert row["ratio_to_float"]["median"] == pytest.approx(0.5)  # of 0.5, 0.4, 0.6
    assert row["ratio_to_float"]["of_minima"] == pytest.approx(0.5)  # 5 of 10
    assert row["ratio_to_nncf"]["median"] == 1.0


def test_the_float_model_stands_beside_itself_without_a_loss() -> None:
    row = rows(measured(FLOAT), "NNCF")[0]
    assert (row["drop"], row["agreement"], row["logit_sqnr_db"]) == (0.0, 100.0, None)
    assert row["ratio_to_float"]["median"] == 1.0
    assert "ratio_to_nncf" not in row


def test_the_table_says_what_is_not_installed() -> None:
    absent = {"name": openvino_tools.NAME, "note": openvino_tools.MISSING}
    lines = markdown([*rows(measured(FLOAT), "absent"), absent]).splitlines()
    assert {line.count("|") for line in lines} == {len(HEADING) + 1}
    assert "pip install -r tools/peers-requirements.txt" in lines[-1]


def test_unlabelled_images_give_agreement_and_no_accuracy() -> None:
    labelled = measured(FLOAT)
    row = rows(Measured(labelled.contenders, labelled.logits, None, labelled.times), "peer")[1]
    assert row["agreement"] == 100.0
    assert "top1" not in row
    assert "| peer |  |  | 100.00 |" in markdown([row])


@pytest.mark.parametrize(("count", "expected"), [(None, 6), (3, 3), (50, 6)])
def test_calibration_gives_each_image_alone_and_spreads_a_few_evenly(
    photos: tuple[Path, ...], count: int | None, expected: int
) -> None:
    calibration = Calibration(photos, SPEC)
    given = list(calibration.inputs(count))
    assert [image.shape for image in given] == [(1, 3, 8, 8)] * expected
    step = len(photos) // expected
    assert all(
        np.array_equal(image, calibration.input(path))
        for image, path in zip(given, photos[::step], strict=True)
    )


def test_both_input_forms_see_the_same_image(photos: tuple[Path, ...]) -> None:
    contenders = [onnx_contender(name, DATA / name, {}) for name in ("dynamic.onnx", "pixels.onnx")]
    assert [contender.form for contender in contenders] == [InputForm.PIXEL_VALUES, InputForm.PIXELS]
    done: list[int] = []
    first, second = all_logits(
        contenders, ImageSet("photos", photos, None), SPEC, lambda count, _: done.append(count)
    )
    assert done == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(first, second, atol=1e-4)  # float32, normalised inside or outside
    assert all_times(contenders, photos[0], SPEC, Rounds(2, 0.0)).shape == (2, 2)


def test_a_file_is_run_with_the_options_that_it_asks_for() -> None:
    options = Onnx(DATA / "session_options.onnx").session.get_session_options()
    assert options.get_session_config_entry("session.qdqisint8allowed") == "1"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_every_onnxruntime_quantizer_makes_an_integer_model(photos: tuple[Path, ...], tmp_path: Path) -> None:
    calibration = Calibration(photos, SPEC)
    made = onnxruntime_models(DATA / "dynamic.onnx", calibration, Workshop(tmp_path, {}))
    assert len(made) == 4
    for name, path, info in made:
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert kinds & {"QuantizeLinear", "DynamicQuantizeLinear"}, name
        assert Onnx(path).infer(calibration.input(photos[0])).shape == (1, 3)
        assert "settings" in info


def test_numbers_are_written_to_four_decimals() -> None:
    given = {"ms": (1.23456789, 2), "name": "peer", "exact": None, "ok": True}
    assert rounded(given) == {"ms": [1.2346, 2], "name": "peer", "exact": None, "ok": True}


def complete(tmp_path: Path, **replaced: str) -> list[str]:
    given = {"source": "absent", "calib": "absent", "data": "absent", "output": str(tmp_path / "r.json")}
    return [part for name, value in (given | replaced).items() for part in (f"--{name}", value)]


@pytest.mark.parametrize(
    "replaced",
    [{}, {"presets": "balanced,quick"}, {"presets": ""}, {"output": "/nowhere/r.json"}],
    ids=["no model", "an unknown preset", "no preset", "no folder to write to"],
)
def test_what_cannot_be_compared_is_refused_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], replaced: dict[str, str]
) -> None:
    assert compare_peers.main(complete(tmp_path, **replaced)) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("flags", [("avx2",), ("avx2", "avx512_vnni")], ids=["AVX2", "VNNI"])
def test_our_presets_are_written_in_every_form_and_say_how_they_were_made(
    photos: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    machine = Capabilities("Linux", "x86_64", frozenset(flags))
    monkeypatch.setattr("tools.peers.ours.this_machine", lambda: machine)
    source = resolve(str(DIGITS), SourceOptions())
    made = presets(source, photos, [Preset.STATIC], Workshop(tmp_path, {"weights": source.sha256}))
    assert [name for name, _, _ in made] == [f"vit-edge static ({form})" for form in forms()]
    for _, path, info in made:
        onnx.checker.check_model(path)
        assert info["recipe"]["preset"] == "static"
        assert "folds" not in info["recipe"]
        assert sum(info["layers"].values()) > 0
        json.dumps(info)
