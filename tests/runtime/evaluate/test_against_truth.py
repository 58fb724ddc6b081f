"""`compare --truth`: boxes of COCO's form and folders of masks, from files to the verdict, and refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.conftest import SPEC
from vit_edge.cli import main
from vit_edge.runtime.model.metadata import LABELS_KEY, PREPROCESS_KEY

IMAGES, SIDE = 40, 16
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
LABELS = tuple(COLOURS)
PAINTED = (4, 4, 12, 12)  # of every image

Edit = Callable[[dict[str, Any]], object]


def save(path: Path, nodes: list[Any], constants: dict[str, Any], outputs: dict[str, list[Any]]) -> Path:
    onnx = pytest.importorskip("onnx", reason="needs onnx to write models")
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes],
        "toy",
        [value("pixel_values", ["n", 3, 8, 8])],
        [value(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    labels = LABELS if "boxes" in outputs else ("nothing", *LABELS)
    helper.set_model_props(
        model, {LABELS_KEY: json.dumps(labels), PREPROCESS_KEY: json.dumps(SPEC.to_json())}
    )
    onnx.save(model, path)
    return path


def a_detector(path: Path, size: float = 0.5, sees: float = 9.0) -> Path:
    """One box in the middle, of the colour that the image has most of.

    Args:
        path: of the file.
        size: of the box, as a share.
        sees: how sure it is.
    """
    weights = np.asarray([[sees, 0, 0], [0, sees, 0], [0, 0, 0]], np.float32)
    nodes: list[Any] = [
        ("GlobalMaxPool", ["pixel_values"], ["pooled"], {}),
        ("Flatten", ["pooled"], ["means"], {}),
        ("Gemm", ["means", "weights"], ["row"], {"transB": 1}),
        ("Reshape", ["row", "one"], ["logits"], {}),
        ("Gemm", ["means", "nothing", "place"], ["places"], {"transB": 1}),
        ("Reshape", ["places", "one"], ["boxes"], {}),
    ]
    constants = {
        "weights": weights,
        "one": np.asarray([0, 1, -1], np.int64),
        "nothing": np.zeros((4, 3), np.float32),
        "place": np.asarray([0.5, 0.5, size, size], np.float32),
    }
    return save(path, nodes, constants, {"logits": ["n", 1, 3], "boxes": ["n", 1, 4]})


def a_segmenter(path: Path, green: float = 3.0) -> Path:
    """Three channels: nothing, red and green."""
    weights = np.asarray([[0, 0, 0], [3, 0, 0], [0, green, 0]], np.float32)[:, :, None, None]
    bias = np.asarray([1.0, 0, 0], np.float32)
    nodes: list[Any] = [("Conv", ["pixel_values", "weights", "bias"], ["scores"], {})]
    return save(path, nodes, {"weights": weights, "bias": bias}, {"scores": ["n", 3, 8, 8]})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images with a square of one colour, noise around it, and their truth in boxes.json and masks."""
    rng = np.random.default_rng(0)
    folder, masks = tmp_path / "images", tmp_path / "masks"
    for each in (folder, masks):
        each.mkdir()
    images, boxes = [], []
    left, top, right, bottom = PAINTED
    for number in range(IMAGES):
        colour = LABELS[number % 2]
        pixels = rng.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[top:bottom, left:right] = COLOURS[colour]
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[top:bottom, left:right] = 1 + number % 2
        edges = [top - 1, top, bottom - 1, bottom]  # where the map is between two places
        mask[edges] = 255
        mask[:, edges] = 255
        Image.fromarray(mask).save(masks / f"{number:02d}.png")
        images.append({"id": 5 + number, "file_name": f"{number:02d}.png", "width": SIDE, "height": SIDE})
        boxes.append({"image_id": 5 + number, "category_id": 7 + number % 2, "bbox": [left, top, 8, 8]})
    categories = [{"id": 7, "name": "Red"}, {"id": 8, "name": "green"}]
    made = {"images": images, "categories": categories, "annotations": boxes}
    (tmp_path / "boxes.json").write_text(json.dumps(made))
    return tmp_path


def compared(data: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    status = main(
        [
            "compare",
            str(data / "float.onnx"),
            str(data / "quant.onnx"),
            "--data",
            str(data / "images"),
            "--independent",
            *options,
        ]
    )
    said = capsys.readouterr()
    return status, said.out + said.err


def test_boxes_against_truth_give_both_measures_and_the_verdict(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second model's boxes overlap by 0.81, which seven of ten thresholds accept."""
    a_detector(data / "float.onnx")
    a_detector(data / "quant.onnx", size=0.45)
    report = data / "out.json"
    status, said = compared(data, capsys, "--truth", str(data / "boxes.json"), "--json", str(report))
    assert status == 1, said
    first, second = json.loads(report.read_text())["evidence"]["truth"]
    assert (first["measure"], second["measure"]) == ("map_50_95", "map_50")
    assert (first["score_float"], first["score_quant"]) == (pytest.approx(100), pytest.approx(70))
    assert (second["score_float"], second["score_quant"]) == (pytest.approx(100), pytest.approx(100))
    assert [each["label"] for each in first["classes"]] == ["red", "green"]
    assert "FAIL for a drop in mAP@0.5:0.95 of at most 1 point" in said
    assert "mAP@0.5:0.95" in said
    assert "30.00 points" in said
    assert "(with truth)" in said


def test_a_model_that_is_as_right_is_undecided_on_few_images(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_detector(data / "float.onnx")
    a_detector(data / "quant.onnx", sees=8.0)
    status, said = compared(data, capsys, "--truth", str(data / "boxes.json"))
    assert status == 3, said
    assert "drop 0.00 points, 95 % bootstrap interval 0.00 to 0.00" in said
    status, said = compared(data, capsys, "--truth", str(data / "boxes.json"), "--max-drop", "40")
    assert status == 0, said


def test_masks_against_truth_give_mean_overlap(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second model sees no green, a third of the classes."""
    a_segmenter(data / "float.onnx")
    a_segmenter(data / "quant.onnx", green=0.5)
    report = data / "out.json"
    status, said = compared(data, capsys, "--truth", str(data / "masks"), "--json", str(report))
    assert status == 1, said
    (found,) = json.loads(report.read_text())["evidence"]["truth"]
    assert found["measure"] == "miou"
    assert found["score_float"] == pytest.approx(100)
    scores = {each["label"]: each["score_quant"] for each in found["classes"]}
    assert (scores["red"], scores["green"]) == (pytest.approx(100), 0)
    kept = 12 * 12 - 6 * 6  # pixels of nothing that count; half of the images add 36 to what is said to be so
    assert scores["nothing"] == pytest.approx(100 * kept / (kept + 36 / 2), rel=1e-6)
    assert "FAIL for a drop in mIoU" in said


def test_images_without_truth_are_left_out_and_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_segmenter(data / "float.onnx")
    a_segmenter(data / "quant.onnx", green=2.9)
    (data / "masks" / "00.png").unlink()
    _, said = compared(data, capsys, "--truth", str(data / "masks"))
    assert "1 image is left out, as" in said
    assert f"{IMAGES - 1} (with truth)" in said


BAD_BOXES: dict[str, tuple[Edit, str]] = {
    "absent image": (
        lambda raw: raw["images"].append({"id": 99, "file_name": "gone.png"}),
        "speaks of 1 images that are not in images (gone.png)",
    ),
    "no name in common": (
        lambda raw: [each.update(file_name=f"x{each['file_name']}") for each in raw["images"]],
        "have no name in common",
    ),
    "annotation of no image": (
        lambda raw: raw["annotations"][0].update(image_id=1000),
        "annotations[0] is of the image 1000, which `images` does not have",
    ),
    "category of none": (
        lambda raw: raw["annotations"][3].update(category_id=1),
        "annotations[3] is of the category 1, which `categories` does not have",
    ),
    "category that the model has not": (
        lambda raw: raw["categories"].append({"id": 9, "name": "blue"}),
        "the category 'blue', which is none of the model's 2 classes",
    ),
    "two categories for a class": (
        lambda raw: raw["categories"].append({"id": 9, "name": "RED"}),
        "two categories for the model's class 'red'",
    ),
    "another size": (
        lambda raw: raw["images"][2].update(width=32),
        "32 x 16 pixels of 02.png, which is 16 x 16 upright",
    ),
    "box without area": (
        lambda raw: raw["annotations"][0].update(bbox=[1, 1, 0, 4]),
        "annotations[0].bbox must be left, top, and a width and height above 0",
    ),
    "box elsewhere": (
        lambda raw: raw["annotations"][0].update(bbox=[100, 1, 4, 4]),
        "lies outside the image, which is 16 x 16",
    ),
    "three numbers": (
        lambda raw: raw["annotations"][0].update(bbox=[1, 1, 4]),
        "annotations[0].bbox must be",
    ),
    "no list": (lambda raw: raw.update(annotations={}), "annotations must be a list"),
    "no images": (lambda raw: raw.pop("images"), "has no 'images'"),
    "no boxes": (lambda raw: raw.update(annotations=[]), "has no box on any image"),
    "crowd": (lambda raw: raw["annotations"][0].update(iscrowd="yes"), "annotations[0].iscrowd"),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_boxes_that_fit_nothing_are_refused_by_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, expected = BAD_BOXES[case]
    for name in ("float", "quant"):
        a_detector(data / f"{name}.onnx", sees=9.0 if name == "float" else 8.0)
    raw = json.loads((data / "boxes.json").read_text())
    change(raw)
    (data / "boxes.json").write_text(json.dumps(raw))
    status, said = compared(data, capsys, "--truth", str(data / "boxes.json"))
    assert status == 2
    assert expected in said
    assert "boxes.json" in said
    assert said.strip().count("\n") == 0, said


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "is not valid JSON"), ("[]", "must be an object"), ("{}", "has no 'categories'")],
)
def test_a_file_that_is_none_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    for name in ("float", "quant"):
        a_detector(data / f"{name}.onnx", sees=9.0 if name == "float" else 8.0)
    (data / "boxes.json").write_text(text)
    status, said = compared(data, capsys, "--truth", str(data / "boxes.json"))
    assert (status, said.strip().count("\n")) == (2, 0)
    assert expected in said


def spoil(masks: Path, case: str) -> None:
    first = masks / "00.png"
    values = np.asarray(Image.open(first)).copy()
    if case == "another size":
        Image.fromarray(values[:8]).save(first)
    elif case == "unknown class":
        values[0, 0] = 9
        Image.fromarray(values).save(first)
    elif case == "a picture":
        Image.fromarray(values).convert("RGB").save(first)
    elif case == "absent image":
        first.rename(masks / "gone.png")
    elif case == "lossy":
        Image.fromarray(values).save(masks / "00.jpg")
        first.unlink()
    elif case == "damaged":
        first.write_bytes(first.read_bytes()[:60])
    elif case == "no mask":
        for each in masks.iterdir():
            each.unlink()
    else:  # 0 and 255, as tools for one class write them
        for each in masks.iterdir():
            own = np.asarray(Image.open(each))
            Image.fromarray(np.where(own == 0, 0, 255).astype(np.uint8)).save(each)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("another size", "00.png is 16 x 8, and 00.png 16 x 16 upright"),
        ("unknown class", "has the class 9, and the model 3 (0 to 2, 255 is left out)"),
        ("a picture", "a picture of mode RGB, no mask"),
        ("absent image", "speaks of 1 images that are not in images (gone.png)"),
        ("lossy", "00.jpg is a JPEG file, no mask"),
        ("damaged", "00.png"),
        ("no mask", "holds no mask"),
        ("0 and 255", "show class 0 alone (255 is left out)"),
    ],
)
def test_masks_that_fit_nothing_are_refused_by_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], case: str, expected: str
) -> None:
    for name in ("float", "quant"):
        a_segmenter(data / f"{name}.onnx", green=3.0 if name == "float" else 2.9)
    spoil(data / "masks", case)
    status, said = compared(data, capsys, "--truth", str(data / "masks"))
    assert (status, said.strip().count("\n")) == (2, 0), said
    assert expected in said


@pytest.mark.parametrize(
    ("make", "truth", "expected"),
    [
        (a_detector, "masks", "is a folder; give a JSON file of COCO's form, as the model gives boxes"),
        (a_segmenter, "boxes.json", "is a file; give a folder of masks, as the model gives maps"),
        (a_segmenter, "nowhere", "nowhere does not exist"),
    ],
)
def test_truth_of_another_kind_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str], make: Callable[..., Path], truth: str, expected: str
) -> None:
    make(data / "float.onnx")
    make(data / "quant.onnx", 0.4)
    status, said = compared(data, capsys, "--truth", str(data / truth))
    assert (status, said.strip().count("\n")) == (2, 0)
    assert expected in said


def test_truth_of_a_classifier_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str], toy_model: Callable[..., Any]
) -> None:
    names = [toy_model(f"{name}.onnx", np.eye(3) * scale).path for name, scale in (("a", 1), ("b", 2))]
    command = ["compare", *map(str, names), "--data", str(data / "images"), "--truth", str(data / "masks")]
    assert main(command) == 2
    assert "--truth is of models of boxes or maps" in capsys.readouterr().err
