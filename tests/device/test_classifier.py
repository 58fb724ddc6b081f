"""Three lines to a prediction; a bad image costs only itself."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vit_edge
from vit_edge import Classifier, ImageError, ModelError, Prediction, UsageError
from vit_edge.runtime.classifier import softmax
from vit_edge.runtime.decode import ImageSource
from vit_edge.runtime.model import read_model
from vit_edge.runtime.preprocess import load_pixels
from vit_edge.runtime.session import Session


@pytest.fixture(scope="module")
def classify(data: Path) -> Classifier:
    return Classifier(data / "dynamic.onnx", provider="cpu", threads=1)


def picture(seed: int) -> np.ndarray:
    """A single colour, so that different seeds get different scores."""
    return np.full((12, 15, 3), np.random.default_rng(seed).integers(0, 256, 3), np.uint8)


def test_predictions_are_the_softmax_of_the_logits_in_order(classify: Classifier, data: Path) -> None:
    model = read_model(data / "dynamic.onnx")
    assert model.preprocess is not None
    logits = Session(model).run(load_pixels(picture(0), model.preprocess)[None])[0]
    scores = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    predictions = classify(picture(0))
    assert [p.index for p in predictions] == np.argsort(-scores).tolist()
    assert [p.label for p in predictions] == [("ant", "bee", "cat")[p.index] for p in predictions]
    np.testing.assert_allclose([p.score for p in predictions], np.sort(scores)[::-1], rtol=1e-12)
    assert sum(p.score for p in predictions) == pytest.approx(1)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k_gives_no_more_than_there_are(classify: Classifier, top_k: int, count: int) -> None:
    assert len(classify(picture(1), top_k=top_k)) == count


def test_a_path_its_bytes_and_its_pixels_give_one_answer(classify: Classifier, tmp_path: Path) -> None:
    image = Image.fromarray(picture(2))
    image.save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    answers = [classify(s) for s in (tmp_path / "image.png", data, io.BytesIO(data), image, picture(2))]
    assert answers == [answers[0]] * 5


def test_a_prediction_cannot_be_changed(classify: Classifier) -> None:
    prediction = classify(picture(0))[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.label = "dog"  # type: ignore[misc]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["dynamic.onnx", "fixed4.onnx", "pixels.onnx"])
def test_a_batch_gives_the_answers_of_single_calls_in_order(data: Path, name: str, batch_size: int) -> None:
    classify = Classifier(data / name)
    batch = list(classify.batch(map(picture, range(7)), batch_size=batch_size, top_k=2))
    for seed, answer in enumerate(batch):
        assert not isinstance(answer, ImageError)
        single = classify(picture(seed), top_k=2)
        assert [p.index for p in answer] == [p.index for p in single]
        assert [p.score for p in answer] == pytest.approx([p.score for p in single], abs=1e-6)
    assert len(batch) == 7


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_bad_image_yields_its_error_in_place(classify: Classifier, batch_size: int) -> None:
    sources: list[ImageSource] = [picture(0), b"no image", "missing.jpg", picture(3), b""]
    answers = list(classify.batch(sources, batch_size=batch_size))
    assert [isinstance(answer, ImageError) for answer in answers] == [False, True, True, False, True]
    assert "missing.jpg" in str(answers[2])
    assert answers[0] == classify(picture(0))


def test_a_batch_reads_its_sources_as_it_goes(classify: Classifier) -> None:
    taken = []

    def sources() -> Iterator[np.ndarray]:
        for seed in range(100):
            taken.append(seed)
            yield picture(seed)

    answers = classify.batch(sources(), batch_size=4)
    next(answers)
    assert len(taken) == 4


def test_an_empty_batch_is_empty(classify: Classifier) -> None:
    assert list(classify.batch([])) == []


def test_a_bad_image_raises_when_called_alone(classify: Classifier) -> None:
    with pytest.raises(ImageError, match="no JPEG"):
        classify(b"no image")


def test_sizes_below_one_are_refused_at_once(classify: Classifier) -> None:
    with pytest.raises(UsageError, match="top_k"):
        classify(picture(0), top_k=0)
    with pytest.raises(UsageError, match="batch_size"):
        classify.batch([], batch_size=0)
    with pytest.raises(UsageError, match="top_k"):
        classify.batch([], top_k=0)


def test_without_labels_the_class_index_stands_for_the_label(data: Path) -> None:
    classify = Classifier(data / "no_labels.onnx")
    assert classify.labels is None
    assert {p.label for p in classify(picture(0))} == {"0", "1", "2"}


def test_labels_and_placement_are_told(classify: Classifier) -> None:
    assert classify.labels == ("ant", "bee", "cat")
    assert classify.placement.reason == "requested"


def test_a_model_without_preprocessing_is_refused(data: Path) -> None:
    with pytest.raises(ModelError, match=r"vit_edge\.preprocess"):
        Classifier(data / "plain.onnx")


def test_softmax_survives_huge_logits() -> None:
    scores = softmax(np.array([[1e30, 0, -1e30], [1000, 1000, 999]], np.float32))
    np.testing.assert_allclose(scores[0], [1, 0, 0])
    np.testing.assert_allclose(scores.sum(-1), 1)


def test_prediction_is_what_the_package_exports() -> None:
    assert vit_edge.Prediction is Prediction
