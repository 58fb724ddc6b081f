"""From a detection model's file to boxes on images of any size, as transformers gives them."""

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from PIL import Image

from tests.host.dense_models import STATED, dense_onnx
from tests.host.pictures import smooth_folders
from tests.host.yolos import BOXES, CLASSES, SIDE, yolos, yolos_onnx
from vit_edge import Detector, ImageError, ModelError, Segmenter, UsageError
from vit_edge.cli import main
from vit_edge.runtime.model.file import check_classifier, read_model
from vit_edge.runtime.session.session import Session

SIZE = (45, 70)  # height, width
LABELS = ("red", "white", "platelet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    (folder / "given.onnx").write_bytes(yolos_onnx().SerializeToString())
    (folder / "labels.txt").write_text("\n".join(LABELS))
    words = ["optimize", str(folder / "given.onnx"), "-o", str(folder / "made.onnx"), *STATED]
    assert main([*words, "--labels", str(folder / "labels.txt"), "--allow-uncanonical"]) == 0
    return folder / "made.onnx"


@pytest.fixture(scope="module")
def image(model: Path) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    path = model.parent / "image.png"
    Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def test_boxes_are_those_of_transformers(model: Path, image: Path) -> None:
    """By its own reading of the outputs, from the image file; 1e-3 of 70 pixels is float32."""
    pixels = np.asarray(Image.open(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    with torch.no_grad():
        given = yolos()(torch.from_numpy((pixels / 127.5 - 1).transpose(2, 0, 1)[None]))
    processor = transformers.YolosImageProcessorPil()
    expected = processor.post_process_object_detection(given, 0.0, torch.tensor([SIZE]))[0]
    found = {each.score: each for each in Detector(model, threads=1)(image, threshold=0.0)}
    height, width = SIZE
    limits = np.asarray([width, height, width, height])
    boxes = np.clip(expected["boxes"].numpy(), 0, limits)
    whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    assert len(found) == whole.sum() > BOXES / 2
    order = np.argsort(-expected["scores"].numpy()[whole])
    for each, row in zip(found.values(), np.flatnonzero(whole)[order], strict=True):
        assert each.index == int(expected["labels"][row])
        assert each.label == LABELS[each.index]
        assert each.score == pytest.approx(float(expected["scores"][row]), abs=1e-4)
        np.testing.assert_allclose(each.box, boxes[row], atol=1e-3)


def test_batches_give_the_same_and_a_bad_image_its_error(model: Path, image: Path) -> None:
    detect = Detector(model, threads=1)
    first, second, third = detect.batch([image, b"no image", Image.open(image)], 2, threshold=0.1)
    assert isinstance(second, ImageError)
    assert not isinstance(first, ImageError)
    assert not isinstance(third, ImageError)
    for one, other in ((first, third), (first, detect(image, 0.1))):
        assert [each.index for each in one] == [each.index for each in other]
        np.testing.assert_allclose([each.box for each in one], [each.box for each in other], atol=1e-3)


def test_a_pickled_one_opens_the_same_model(model: Path, image: Path) -> None:
    detect = Detector(model, threads=1)
    again = pickle.loads(pickle.dumps(detect))  # noqa: S301  made here
    assert again(image, 0.0) == detect(image, 0.0)
    assert again.labels == LABELS


def test_the_command_says_boxes_and_draws(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["detect", str(model), str(image), "--threads", "1", "--threshold", "0"]
    assert main([*words, "--json", "--draw", str(tmp_path / "drawn.png")]) == 0
    found = json.loads(capsys.readouterr().out)["objects"]
    expected = Detector(model, threads=1)(image, 0.0)
    assert [(each["label"], each["index"]) for each in found] == [
        (each.label, each.index) for each in expected
    ]
    np.testing.assert_allclose([each["box"] for each in found], [each.box for each in expected], atol=1e-3)
    with Image.open(tmp_path / "drawn.png") as picture, Image.open(image) as plain:
        assert picture.size == plain.size
        assert np.asarray(picture).tobytes() != np.asarray(plain).tobytes()
    assert main(words) == 0
    assert f"{len(expected)} objects" in capsys.readouterr().out


def test_an_int8_detector_finds_nearly_the_same(model: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "calib").mkdir()
    for seed in range(16):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(coarse).resize((40, 30)).save(tmp_path / "calib" / f"{seed}.png")
    out = tmp_path / "int8.onnx"
    words = ["quantize", str(model), "--calib", str(tmp_path / "calib"), "--preset", "static"]
    assert main([*words, "-o", str(out), "--allow-uncanonical"]) == 0
    written = [node.op_type for node in onnx.load(out).graph.node]
    assert written.count("QuantizeLinear") > 8
    given, made = (Detector(path, threads=1)(image, 0.0) for path in (model, out))
    best = given[0]
    near = min(made, key=lambda each: float(np.abs(np.subtract(each.box, best.box)).max()))
    # one static range for each layer, random weights: within a twentieth of the image and of the probability
    assert near.index == best.index
    np.testing.assert_allclose(near.box, best.box, atol=0.05 * max(SIZE))
    assert near.score == pytest.approx(best.score, abs=0.05)


@pytest.fixture(scope="module")
def shown(model: Path) -> Path:
    """A random model whose surest boxes are made sure enough to be shown, and images beside it."""
    sure = onnx.load(model)
    last = next(node for node in reversed(sure.graph.node) if "logits" in node.output)
    factor = onnx.numpy_helper.from_array(np.asarray(40.0, np.float32), "forty")
    sure.graph.initializer.append(factor)
    last.output[0] = "unsure"
    sure.graph.node.append(onnx.helper.make_node("Mul", ["unsure", "forty"], ["logits"]))
    onnx.save(sure, model.parent / "sure.onnx")
    smooth_folders(model.parent, {"calib": 16, "check": 12})
    return model.parent / "sure.onnx"


def test_compare_judges_the_boxes(shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(shown), str(shown), "--self", "--data", str(shown.parent / "check")]
    more = ["--independent", "--max-changed", "40", "--threads", "1"]
    assert main([*words, *more, "--json", str(tmp_path / "report.json")]) == 0
    assert "boxes of pred_boxes" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "report.json").read_text())["evidence"]["maps"]
    assert (found["measure"], found["mean"], found["verdict"]) == ("boxes", 1.0, "PASS")


def test_a_bundle_of_a_detector_says_so_and_detects(
    shown: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    words = ["--calib", str(shown.parent / "calib"), "--data", str(shown.parent / "check")]
    more = ["--preset", "static", "--repair", "never", "--threads", "1", "--max-changed", "60"]
    again = ["--allow-uncanonical", "--target", "cpu", "-o", str(out)]
    assert main(["build", str(shown), *words, *more, *again]) in (0, 3)
    card = (out / "README.md").read_text()
    for said in ("object-detection", "It gives boxes", "boxes of `pred_boxes`", "vit_edge import Detector"):
        assert said in card
    assert main(["selftest", str(out)]) == 0
    capsys.readouterr()
    assert main(["detect", str(out), str(image), "--threads", "1"]) == 0
    assert f"{len(Detector(out, threads=1)(image))} object" in capsys.readouterr().out


def test_a_source_says_that_it_gives_boxes(model: Path) -> None:
    with pytest.raises(
        ModelError, match=r"gives boxes \(logits\), no classes: open it with vit_edge.Detector"
    ):
        check_classifier(read_model(model))
    with pytest.raises(ModelError, match=r"gives boxes: open it with vit_edge.Detector"):
        Segmenter(model)
    with pytest.raises(ModelError, match="gives boxes and no logits of the image"):
        Session(read_model(model)).run(np.zeros((1, SIDE, SIDE, 3), np.uint8))


def test_a_model_of_maps_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "maps.onnx").write_bytes(dense_onnx("per-patch").SerializeToString())
    with pytest.raises(ModelError, match="no detection head: pred_boxes"):
        Detector(tmp_path / "maps.onnx")


def test_labels_of_another_number_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = model.parent / "four.txt"
    labels.write_text("a\nb\nc\nd\n")
    words = ["optimize", str(model.parent / "given.onnx"), "-o", str(model.parent / "four.onnx"), *STATED]
    assert main([*words, "--labels", str(labels), "--allow-uncanonical"]) == 2
    line = capsys.readouterr().err.strip()
    assert "four.txt" in line
    assert str(CLASSES) in line


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_probability(
    threshold: float, model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect = Detector(model, threads=1)
    with pytest.raises(UsageError, match="between 0 and 1"):
        detect(image, threshold)
    with pytest.raises(UsageError, match="between 0 and 1"):
        detect.batch([image], threshold=threshold)
    assert main(["detect", str(model), str(image), "--threshold", str(threshold)]) == 2
    assert "--threshold" in capsys.readouterr().err


def test_a_drawing_is_of_one_image(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(model), str(image), str(image), "--draw", "x.png"]) == 2
    assert "--draw takes one image, got 2" in capsys.readouterr().err
