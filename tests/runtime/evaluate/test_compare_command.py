"""`vit-edge compare` from end to end: what it prints, writes and refuses."""

import json
import math
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vit_edge.cli import main
from vit_edge.runtime.model.file import ModelFile

COLOURS = ("red", "green", "blue")
GREEN_BLIND = ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 1.0))  # never says green
SAME = tuple(map(tuple, (2 * np.eye(3)).tolist()))  # another file, and the same answers

ToyModel = Callable[..., ModelFile]
Output = pytest.CaptureFixture[str]
Weights = Sequence[Sequence[float]]


def command(toy_model: ToyModel, data: Path, weights: Weights, *options: str) -> list[str]:
    models = [str(toy_model("float.onnx").path), str(toy_model("quant.onnx", weights).path)]
    return ["compare", *models, "--data", str(data), *options]


def printed(capsys: Output) -> dict[str, str]:
    """The rows on standard output, by name."""
    lines = capsys.readouterr().out.splitlines()
    return {name.strip(): text for name, text in (line.split("  ", 1) for line in lines)}


def unlabelled(data: Path) -> Path:
    """The same images without folders."""
    for path in sorted(data.glob("*/*.png")):
        path.rename(data / f"{path.parent.name}-{path.name}")
    for folder in [each for each in data.iterdir() if each.is_dir()]:
        folder.rmdir()
    return data


def test_all_that_was_measured_is_printed(toy_model: ToyModel, many: Path, capsys: Output) -> None:
    assert main(command(toy_model, many, GREEN_BLIND)) == 1
    rows = {name: text.strip() for name, text in printed(capsys).items()}
    assert rows["images"] == "300 (labelled)"
    assert rows["top-1"] == "100.00 % float, 66.67 % quantized"
    assert rows["drop"].endswith("100 images lost, 0 gained")
    assert "(expected error); the float model's confidence is " in rows["calibration"]
    assert "nats" in rows["divergence"]
    assert rows["worst classes"] == "green (100 points of 100)"
    assert rows["beyond chance"].startswith("green (p = ")
    assert rows["verdict"] == "FAIL for a drop in top-1 of at most 1 point"


def test_without_labels_nothing_is_said_of_accuracy(toy_model: ToyModel, many: Path, capsys: Output) -> None:
    assert main(command(toy_model, unlabelled(many), GREEN_BLIND)) == 1
    rows = printed(capsys)
    assert set(rows) == {
        *("float", "quantized", "images", "agreement", "logit SQNR", "divergence", "expected drop", "verdict")
    }
    assert rows["images"].strip() == "300 (unlabelled)"


@pytest.mark.parametrize("labelled", [True, False])
def test_sequential_says_how_many_images_it_took(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output, labelled: bool
) -> None:
    report = tmp_path / "report.json"
    data = many if labelled else unlabelled(many)
    options = ["--sequential", "--seed", "3", "--max-drop", "5", "--max-changed", "5", "--json", str(report)]
    assert main(command(toy_model, data, SAME, *options)) == 0
    figures = json.loads(report.read_text())
    assert figures["n"] < figures["evidence"]["images_available"] == 300
    assert figures["evidence"]["sequential"] is True
    assert f"{figures['n']} of 300" in printed(capsys)["images"]


@pytest.mark.parametrize(
    ("weights", "options", "status", "verdict", "message"),
    [
        (SAME, ["--max-drop", "5"], 0, "PASS", None),
        (GREEN_BLIND, [], 1, "FAIL", "FAIL: drop in top-1 33.33 points"),
        (SAME, [], 3, "UNDECIDED", "would decide: "),
    ],
)
def test_junit_shows_the_gate_as_a_test(
    toy_model: ToyModel,
    many: Path,
    tmp_path: Path,
    weights: Weights,
    options: list[str],
    status: int,
    verdict: str,
    message: str | None,
) -> None:
    report = tmp_path / "gate.xml"
    assert main(command(toy_model, many, weights, *options, "--junit", str(report))) == status
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314  we wrote it
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0" if status == 0 else "1")
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert (properties["n"], properties["verdict"]) == ("300", verdict)
    assert math.isfinite(float(properties["mean_kl"] or "nan"))
    assert float(properties["disagreement_ci95_low"] or "nan") < float(properties["drop_ci95_high"] or "nan")
    assert properties["sequential"] == "false"
    case = suite.find("testcase")
    assert case is not None
    assert "quant.onnx" in (case.get("name") or "")
    failure = case.find("failure")
    assert (failure is None) is (message is None)
    if failure is not None and message is not None:
        assert message in (failure.get("message") or "")
        assert failure.get("type") == verdict


def test_both_files_are_named(toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output) -> None:
    report = tmp_path / "report.json"
    main(command(toy_model, many, SAME, "--json", str(report)))
    rows = printed(capsys)
    assert (rows["float"].strip(), rows["quantized"].strip()) == tuple(
        str(tmp_path / name) for name in ("float.onnx", "quant.onnx")
    )
    models = json.loads(report.read_text())["evidence"]["models"]
    assert [Path(each["path"]).name for each in models] == ["float.onnx", "quant.onnx"]
    assert len({each["sha256"] for each in models}) == 2


def test_a_model_is_not_compared_with_itself_unless_that_is_stated(
    toy_model: ToyModel, many: Path, capsys: Output
) -> None:
    words = command(toy_model, many, np.eye(3).tolist())
    assert main(words) == 2
    assert "are the same model, which is no comparison" in capsys.readouterr().err
    assert main([*words, "--self"]) == 3


def test_an_accuracy_that_is_expected_and_not_reached_names_the_model(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    models = [str(toy_model("float.onnx", GREEN_BLIND).path), str(toy_model("quant.onnx").path)]
    words = ["compare", *models, "--data", str(many), "--expect-top1"]
    error = refusal([*words, "95"], tmp_path, capsys)
    assert "float.onnx is right on 66.7 % of 300 images" in error
    assert "suspect its weights, labels or preprocessing, not the quantization" in error
    assert main([*words, "65"]) == 0
    assert main([*words, "101"]) == 2


def test_an_accuracy_cannot_be_expected_of_unlabelled_images(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    words = command(toy_model, unlabelled(many), SAME, "--expect-top1", "90")
    assert "has no labels, so --expect-top1 cannot be checked" in refusal(words, tmp_path, capsys)


def test_a_model_no_better_than_the_commonest_class_is_suspect(
    toy_model: ToyModel, many: Path, capsys: Output
) -> None:
    for path in [*sorted((many / "green").iterdir())[:20], *sorted((many / "blue").iterdir())[:90]]:
        path.unlink()
    models = [str(toy_model("float.onnx", GREEN_BLIND).path), str(toy_model("quant.onnx").path)]
    main(["compare", *models, "--data", str(many)])
    assert "hardly more than always answering the commonest class (52.6 %)" in printed(capsys)["note"]


def test_unequal_classes_are_named_as_the_mix_the_verdict_speaks_of(
    toy_model: ToyModel, many: Path, capsys: Output
) -> None:
    for path in sorted((many / "green").iterdir())[:80]:
        path.unlink()
    main(command(toy_model, many, GREEN_BLIND))
    row = printed(capsys)["mix"]
    assert "3 classes of 20 to 100 images" in row
    assert "with every class weighed alike the drop is 33.33 points" in row


def test_copies_are_counted_once_and_shown(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    """Fifteen images a hundred times over would pass if each copy counted."""
    for folder in many.iterdir():
        paths = sorted(folder.iterdir())
        for path in paths[5:]:
            path.unlink()
        for index in range(30):
            for path in paths[:5]:
                shutil.copy(path, path.with_name(f"copy{index}-{path.name}"))
    report = tmp_path / "report.json"
    assert main(command(toy_model, many, SAME, "--json", str(report))) == 3
    figures = json.loads(report.read_text())
    assert figures["n"] == 15
    assert figures["evidence"]["copies"]["left_out"] == 450
    assert "450 images repeat another one and are not counted" in printed(capsys)["copies"]


def test_looking_again_with_more_images_is_corrected_and_a_fresh_set_is_not(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    first, fresh, more = (tmp_path / name for name in ("first", "fresh", "more"))
    for folder in sorted(many.iterdir()):
        for place in (first, fresh, more):
            (place / folder.name).mkdir(parents=True)
        for index, path in enumerate(sorted(folder.iterdir())):
            for place in (first, more) if index < 40 else (more,) if index < 70 else (fresh,):
                shutil.copy(path, place / folder.name)
    widths = {}
    for place in (first, more, fresh, first):
        report = tmp_path / "report.json"
        main(command(toy_model, place, SAME, "--json", str(report)))
        rows, figures = printed(capsys), json.loads(report.read_text())
        assert ("look" in rows) is (place is more)
        assert figures["evidence"]["look"]["number"] == (2 if place is more else 1)
        assert figures["evidence"]["sequential"] is (place is more)
        widths[place] = figures["drop_ci95"][1] * figures["n"]
    assert widths[more] > 1.2 * widths[first]
    assert len(figures["evidence"]["history"]["looks"]) == 3  # the first set again is no further look


def test_the_json_alone_remembers_looks_on_a_machine_that_forgets(
    toy_model: ToyModel, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, less = tmp_path / "report.json", tmp_path / "less"
    for folder in sorted(many.iterdir()):
        (less / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:30]:
            shutil.copy(path, less / folder.name)
    for index, data in enumerate([less, many]):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{index}"))
        main(command(toy_model, data, SAME, "--json", str(report)))
    assert json.loads(report.read_text())["evidence"]["look"] == {"number": 2, "known": 90, "left_out": 0}


def test_junit_without_labels_speaks_of_changed_predictions(
    toy_model: ToyModel, many: Path, tmp_path: Path
) -> None:
    report = tmp_path / "gate.xml"
    assert main(command(toy_model, unlabelled(many), GREEN_BLIND, "--junit", str(report))) == 1
    assert "FAIL: share of changed predictions 33.33 % (95 % interval" in report.read_text()


def test_junit_survives_what_a_file_name_may_hold(toy_model: ToyModel, many: Path, tmp_path: Path) -> None:
    quant = toy_model("float.onnx").path.rename(tmp_path / 'a<&"\x01\n\udcff.onnx')
    words = [
        "compare",
        str(toy_model("float.onnx").path),
        str(quant),
        "--data",
        str(many),
        "--limit",
        "30",
        "--self",
    ]
    assert main([*words, "--junit", str(tmp_path / "gate.xml")]) == 3
    case = ET.parse(tmp_path / "gate.xml").getroot().find("testsuite/testcase")  # noqa: S314  we wrote it
    assert case is not None
    assert 'a<&"' in (case.get("name") or "")


def refusal(words: list[str], tmp_path: Path, capsys: Output) -> str:
    """The one line of an exit status of 2 that leaves no file behind."""
    report, junit = tmp_path / "report.json", tmp_path / "gate.xml"
    assert main([*words, "--json", str(report), "--junit", str(junit)]) == 2
    assert not report.exists()
    assert not junit.exists()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vit-edge: error: ")
    assert "internal error" not in error
    return error


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        (np.eye(3)[[1, 2, 0]].tolist(), COLOURS, "their classes are in different orders"),
        (np.eye(3)[[1, 2, 0]].tolist(), ("green", "blue", "red"), "have the same labels in another order"),
        (GREEN_BLIND[:2], ("red", "green"), "have 3 and 2 classes"),
        (GREEN_BLIND[:2], None, "have 3 and 2 classes"),
        ([[math.nan] * 3] * 3, COLOURS, "quant.onnx gives logits that are not finite"),
        ([[math.inf] * 3] * 3, COLOURS, "quant.onnx gives logits that are not finite"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--sequential"]], ids=["", "sequential"])
def test_models_that_cannot_be_compared_are_refused(
    toy_model: ToyModel,
    many: Path,
    tmp_path: Path,
    capsys: Output,
    weights: Weights,
    labels: tuple[str, ...] | None,
    message: str,
    options: list[str],
) -> None:
    models = [str(toy_model("float.onnx").path), str(toy_model("quant.onnx", weights, labels).path)]
    assert message in refusal(["compare", *models, "--data", str(many), *options], tmp_path, capsys)


def test_one_model_that_cannot_take_the_others_input_is_refused(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    models = [str(toy_model("a.onnx").path), str(toy_model("b.onnx", preprocess=None, side=16).path)]
    error = refusal(["compare", *models, "--data", str(many)], tmp_path, capsys)
    assert "b.onnx carries no preprocessing and takes (16, 16) pixels" in error


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["red/000.png,3"], "has label '3', which is neither the name of one of the model's classes nor an"),
        (["red/000.png,-1"], "has label '-1'"),
        ([], "lists no image"),
        (["red/absent.png,0"], "absent.png"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output, rows: list[str], message: str
) -> None:
    (many / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    assert message in refusal(command(toy_model, many, SAME), tmp_path, capsys)


def test_labels_beyond_a_model_without_names_are_refused(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    (many / "labels.csv").write_text("path,label\nred/000.png,7\n")
    models = [str(toy_model("a.onnx", labels=None).path), str(toy_model("b.onnx", SAME, labels=None).path)]
    error = refusal(["compare", *models, "--data", str(many)], tmp_path, capsys)
    assert "class 7, but the model's classes are 0 to 2" in error


def test_labels_of_another_model_are_refused(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output
) -> None:
    for first, second in (("red", "spare"), ("green", "red"), ("blue", "green"), ("spare", "blue")):
        (many / first).rename(many / second)
    error = refusal(command(toy_model, many, SAME), tmp_path, capsys)
    assert "is right on 0 of 300 images of many, no better than guessing" in error


def test_no_image_is_refused(toy_model: ToyModel, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refusal(command(toy_model, tmp_path / "empty", SAME), tmp_path, capsys)


@pytest.mark.parametrize("options", [[], ["--sequential"]], ids=["", "sequential"])
def test_an_image_that_cannot_be_read_is_named(
    toy_model: ToyModel, many: Path, tmp_path: Path, capsys: Output, options: list[str]
) -> None:
    for bad in many.glob("*/*.png"):
        bad.write_bytes(b"no image")
    error = refusal(command(toy_model, many, SAME, *options), tmp_path, capsys)
    assert error.count(".png") == 1  # it names the image, once
    assert "repair or remove it" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--junit", "no/such/gate.xml"], "--junit no/such/gate.xml cannot be written"),
        (["--junit", "."], "--junit . cannot be written"),
        (["--max-changed", "0"], "--max-changed must be above 0"),
        (["--sequential", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--seed", "x"], "invalid int value: 'x'"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    toy_model: ToyModel, many: Path, capsys: Output, options: list[str], message: str
) -> None:
    assert main(command(toy_model, many, SAME, *options)) == 2
    assert message in capsys.readouterr().err
