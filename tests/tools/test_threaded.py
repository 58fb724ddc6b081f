"""The tool that compares threads finds a difference where there is one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import threaded
from vit_edge import Classifier, ImageError, Prediction
from vit_edge.runtime.image.source import ImageSource


@pytest.fixture
def classify(data: Path) -> Classifier:
    return Classifier(data / "dynamic.onnx", provider="cpu", threads=1)


def test_threads_answer_as_one_does(classify: Classifier) -> None:
    found = threaded.compare_threads(classify, threaded.drawn_sources(16), 200, 4)
    assert (found.predictions, found.threads, found.sources, found.differ) == (200, 4, 16, 0)


def test_some_of_the_drawn_images_are_refused_and_some_are_not(classify: Classifier) -> None:
    answers = [threaded.answer_of(classify, source) for source in threaded.drawn_sources(16)]
    assert {type(answer) for answer in answers} == {str, list}


class Wavering:
    """Answers otherwise every now and then."""

    def __init__(self) -> None:
        self.calls = itertools.count()

    def __call__(self, source: ImageSource) -> list[Prediction]:
        del source
        return [Prediction("a", 1.0 if next(self.calls) < 100 else 0.5, 0)]

    def batch(self, sources: list[ImageSource], batch_size: int) -> Iterator[list[Prediction] | ImageError]:
        del batch_size
        yield self(sources[0])


def test_a_difference_is_counted() -> None:
    found = threaded.compare_threads(Wavering(), [b"", b""], 200, 2)  # type: ignore[arg-type]
    assert found.differ == 200 - (100 - 2)


def test_the_command_says_what_it_compared(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(data / "dynamic.onnx"), "--predictions", "30", "--threads", "3"]
    assert threaded.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    assert "30 predictions by 3 threads on 64 images" in capsys.readouterr().out
    assert '"differ": 0' in (tmp_path / "found.json").read_text()
