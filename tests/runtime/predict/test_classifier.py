"""Three lines to a prediction; a bad image costs only itself."""

import dataclasses
import functools
import io
import itertools
import math
import pickle
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vit_edge
from vit_edge import (
    Classifier,
    DecodeLimits,
    ImageError,
    ImageFormat,
    ModelError,
    Prediction,
    UsageError,
)
from vit_edge.runtime.image.preprocess import Decoding, load_pixels
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.predict.scores import most_probable
from vit_edge.runtime.session.session import Session

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def classify(data: Path) -> Classifier:
    return Classifier(data / "dynamic.onnx", provider="cpu", threads=1)


@functools.cache
def classifier(decoding: Decoding) -> Classifier:
    return Classifier(DATA / "dynamic.onnx", provider="cpu", threads=1, decoding=decoding)


def encoded(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
    return buffer.getvalue()


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
    np.testing.assert_allclose([p.score for p in predictions], np.sort(scores)[::-1], rtol=1e-6)
    assert sum(p.score for p in predictions) == pytest.approx(1)


def test_one_for_a_server_takes_one_thread_and_answers_alike(classify: Classifier, data: Path) -> None:
    one = Classifier.for_server(data / "dynamic.onnx")
    assert one.placement.provider == "CPUExecutionProvider"
    assert one._session.threads == 1
    assert one(picture(3)) == classify(picture(3))
    assert pickle.loads(pickle.dumps(one))(picture(3)) == classify(picture(3))  # noqa: S301
    with pytest.raises(UsageError, match="limits must be DecodeLimits"):
        Classifier.for_server(data / "dynamic.onnx", limits=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k_gives_no_more_than_there_are(classify: Classifier, top_k: int, count: int) -> None:
    assert len(classify(picture(1), top_k=top_k)) == count


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


def test_an_endless_batch_is_served_as_it_comes(classify: Classifier) -> None:
    answers = list(itertools.islice(classify.batch(map(picture, itertools.count())), 20))
    assert not isinstance(answers[19], ImageError)
    assert [p.index for p in answers[19]] == [p.index for p in classify(picture(19))]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_bad_image_yields_its_error_in_place(classify: Classifier, batch_size: int) -> None:
    sources: list[ImageSource] = [picture(0), b"no image", "missing.jpg", picture(3), b""]
    answers = list(classify.batch(sources, batch_size=batch_size))
    assert [isinstance(answer, ImageError) for answer in answers] == [False, True, True, False, True]
    assert "missing.jpg" in str(answers[2])
    assert answers[0] == classify(picture(0))


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


@given(st.lists(st.sampled_from([0.0, 0.1, -3.0, 0.5, 1.0]), min_size=1, max_size=40), st.integers(1, 50))
def test_the_largest_logits_come_first_and_ties_by_index(logits: list[float], count: int) -> None:
    expected = sorted(range(len(logits)), key=lambda index: (-logits[index], index))[:count]
    assert [index for index, _ in most_probable(np.array(logits, np.float32), count)] == expected


@given(
    st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=300),
    st.sampled_from([1, 5, 16, 17, 300]),
)
def test_probabilities_are_the_softmax_within_1e_5_of_each(logits: list[float], count: int) -> None:
    values = np.array(logits, np.float32)
    found = most_probable(values, count)
    assert len(found) == min(count, len(values))
    powers = [math.exp(value) for value in values.tolist()]
    exact = np.array(powers) / math.fsum(powers)
    np.testing.assert_allclose([score for _, score in found], exact[[i for i, _ in found]], 1e-5, 1e-30)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1e30, 0, -1e30], [(0, 1.0), (1, 0.0), (2, 0.0)]),
        ([-1e30, 0, 1e30], [(2, 1.0), (1, 0.0), (0, 0.0)]),
        ([-3e38, -3e38], [(0, 0.5), (1, 0.5)]),
        ([3e38, -3e38], [(0, 1.0), (1, 0.0)]),
    ],
)
def test_huge_logits_keep_their_order_and_add_up_to_one(
    logits: list[float], expected: list[tuple[int, float]]
) -> None:
    values = np.array(logits, np.float32)
    assert most_probable(values, 3) == expected
    assert values.tolist() == np.array(logits, np.float32).tolist(), "the logits are the caller's"


def test_prediction_is_what_the_package_exports() -> None:
    assert vit_edge.Prediction is Prediction


def test_many_threads_share_one_classifier(classify: Classifier) -> None:
    expected = [classify(picture(seed)) for seed in range(8)]
    shared = Image.open(io.BytesIO(encoded(picture(8), "PNG")))  # not loaded yet, so each thread may try
    expected.append(classify(picture(8)))
    found: list[list[list[Prediction]]] = []

    def work() -> None:
        found.extend([[*map(classify, map(picture, range(8))), classify(shared)] for _ in range(10)])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 60


def test_a_classifier_is_pickled_by_its_arguments(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    limits = DecodeLimits(formats=(ImageFormat.GIF,))
    original = Classifier("dynamic.onnx", provider="cpu", threads=1, decoding=Decoding.EXACT, limits=limits)
    pickled = pickle.dumps(original)
    monkeypatch.chdir("/")
    copy = pickle.loads(pickled)  # noqa: S301  made two lines above
    assert len(pickled) < 1000, "the model itself must not be in it"
    assert copy(picture(3)) == original(picture(3))
    assert copy.placement.reason == "requested"
    assert copy(encoded(picture(4), "GIF"))
    with pytest.raises(ImageError, match="is no GIF image"):
        copy(encoded(picture(4), "PNG"))


@pytest.mark.parametrize("limits", [DecodeLimits(max_pixels=100), DecodeLimits(max_bytes=50)])
def test_the_limits_of_a_classifier_are_those_it_was_given(data: Path, limits: DecodeLimits) -> None:
    classify = Classifier(data / "dynamic.onnx", provider="cpu", limits=limits)
    large, small = encoded(picture(0), "PNG"), np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ImageError, match="limit"):
        classify(large)
    answers = list(classify.batch([large, small]))
    assert [isinstance(answer, ImageError) for answer in answers] == [True, False]


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["PNG", "BMP", "WEBP"]),
    st.sampled_from(list(Decoding)),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_every_form_of_one_image_gives_one_answer(
    width: int, height: int, form: str, decoding: Decoding, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = encoded(pixels, form)
    classify = classifier(decoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        with path.open("rb") as file:
            opened = Image.open(io.BytesIO(data))
            sources = path, str(path), data, file, io.BytesIO(data), opened, Image.fromarray(pixels), pixels
            answers = [classify(source) for source in sources]
    assert answers == [answers[0]] * 8


@pytest.mark.parametrize("size", [(20, 30), (500, 700)], ids=["small", "large"])
def test_the_forms_of_a_jpeg_agree_exactly_on_request(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    data = encoded(pixels, "JPEG")
    (tmp_path / "image.jpg").write_bytes(data)
    opened = Image.open(io.BytesIO(data))
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    forms: list[ImageSource] = [tmp_path / "image.jpg", data, io.BytesIO(data), opened, decoded]
    answers = [classifier(Decoding.EXACT)(source) for source in forms]
    assert answers == [answers[0]] * len(forms)
