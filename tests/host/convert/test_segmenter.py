"""From a dense model's file to masks of images of any size, in Python and on the command line."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.host.dense_models import CHANNELS, STATED, dense_onnx
from tests.host.output_kinds import foreign
from tests.host.vit_forms import IMAGE
from vit_edge import Detector, ImageError, ModelError, Segmenter
from vit_edge.cli import main
from vit_edge.runtime.image.source import ImageSource

SIZE = (21, 34)  # height, width


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    (folder / "given.onnx").write_bytes(dense_onnx("per-patch").SerializeToString())
    (folder / "labels.txt").write_text("sky\nroad\ncar\n")
    words = ["optimize", str(folder / "given.onnx"), "-o", str(folder / "made.onnx"), *STATED]
    assert main([*words, "--labels", str(folder / "labels.txt")]) == 0
    return folder / "made.onnx"


@pytest.fixture(scope="module")
def image(model: Path) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    path = model.parent / "image.png"
    Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def test_the_maps_are_those_of_the_model_that_was_given(model: Path, image: Path) -> None:
    found = Segmenter(model, threads=1)(image)
    pixels = np.asarray(Image.open(image).resize((IMAGE, IMAGE), Image.Resampling.BILINEAR), np.float32)
    session = onnxruntime.InferenceSession(dense_onnx("per-patch").SerializeToString())
    given = (pixels / 127.5 - 1).transpose(2, 0, 1)[None]
    expected = session.run(["scores"], {"pixel_values": given})[0][0]
    np.testing.assert_allclose(found.map, expected, atol=2e-5, rtol=0)
    assert found.mask().shape == found.size == SIZE
    assert set(np.unique(found.mask())) <= set(range(CHANNELS))
    assert found.labels == ("sky", "road", "car")


def test_every_kind_of_image_gives_the_same(model: Path, image: Path) -> None:
    segment = Segmenter(model, threads=1)
    picture = Image.open(image)
    kinds: list[ImageSource] = [image, image.read_bytes(), picture, np.asarray(picture)]
    masks = [each.mask() for each in segment.batch(kinds)]  # type: ignore[union-attr]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_a_bad_image_yields_its_error_and_the_rest_goes_on(model: Path, image: Path) -> None:
    first, second = Segmenter(model, threads=1).batch([b"no image", image], batch_size=2)
    assert isinstance(first, ImageError)
    assert not isinstance(second, ImageError)


def test_a_pickled_one_opens_the_same_model(model: Path, image: Path) -> None:
    segment = Segmenter(model, threads=1)
    again = pickle.loads(pickle.dumps(segment))  # noqa: S301  made here
    np.testing.assert_array_equal(again(image).map, segment(image).map)


def test_the_command_says_shares_and_draws(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, arrays = tmp_path / "drawn.png", tmp_path / "maps.npz"
    words = ["segment", str(model), str(image), "--threads", "1"]
    assert main([*words, "--json", "--draw", str(drawn), "-o", str(arrays)]) == 0
    found = json.loads(capsys.readouterr().out)
    mask = Segmenter(model, threads=1)(image).mask()
    shares = {each["label"]: each["share"] for each in found["classes"]}
    for index, label in enumerate(("sky", "road", "car")):
        assert shares.get(label, 0.0) == pytest.approx((mask == index).mean())
    with Image.open(drawn) as picture, np.load(arrays) as kept:
        assert picture.size == SIZE[::-1]
        np.testing.assert_array_equal(kept["mask"], mask)
    assert main(words) == 0
    assert "34 pixels, 100% seen" in capsys.readouterr().out


def test_a_drawing_for_standard_output_has_it_to_itself(
    model: Path, image: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["segment", str(model), str(image), "--threads", "1", "--draw", "-"]) == 0
    printed = capfdbinary.readouterr()
    with Image.open(io.BytesIO(printed.out)) as picture:
        assert picture.size == SIZE[::-1]
    assert b"100% seen" in printed.err
    assert b"100% seen" not in printed.out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["{image}", "--draw", "-", "-o", "-"], "only one file can go to standard output"),
        (["{image}", "{image}", "--draw", "{out}"], "--draw takes one image, got 2"),
        (["{image}", "--output", "nothing"], "has no output 'nothing'"),
        (["{image}", "--threshold", "nan"], "--threshold"),
    ],
    ids=["two files for one stream", "two drawings", "no such output", "no number"],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: list[str], found: str, model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(image=image, out=tmp_path / "out.png") for word in words]
    assert main(["segment", str(model), *filled]) == 2
    line = capsys.readouterr().err.strip()
    assert found in line
    assert "\n" not in line


def test_a_missing_image_is_reported(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(model), "missing.png"]) == 2
    assert "missing.png" in capsys.readouterr().err


def test_a_classifier_is_no_segmenter(tmp_path: Path) -> None:
    path = foreign(tmp_path / "classifier.onnx", 3, None)
    with pytest.raises(
        ModelError, match=r"gives no maps, it is a classifier: open it with vit_edge.Classifier"
    ):
        Segmenter(path)
    with pytest.raises(ModelError, match="gives no boxes, it is a classifier"):
        Detector(path)
