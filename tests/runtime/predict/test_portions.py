"""A batch goes through the model in the portions that are fastest, whatever they are, answers in order."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vit_edge import Classifier
from vit_edge.runtime.predict.portions import CHEAPER, ROUNDS, Portions

Cost = Callable[[int], float]  # seconds for a portion of so many images


class Model:
    """Answers an image with its double, and takes the time that its size costs."""

    def __init__(self, cost: Cost) -> None:
        self.cost, self.now, self.sizes = cost, 0.0, list[int]()

    def __call__(self, images: Sequence[int]) -> list[int]:
        self.sizes.append(len(images))
        self.now += self.cost(len(images))
        return [2 * image for image in images]


def settled(cost: Cost, batch_size: int) -> tuple[Portions, Model]:
    """After as many batches as it takes to try everything."""
    model = Model(cost)
    portions = Portions(batch_size, now=lambda: model.now)
    for _ in range(20 * ROUNDS):
        assert portions.run(range(batch_size), model) == [2 * i for i in range(batch_size)]
    return portions, model


def small_cache(size: int) -> float:
    """Starting costs two images' time; beyond two images every one costs three."""
    return 2 + size + 2 * max(0, size - 2)


@pytest.mark.parametrize(
    ("cost", "batch_size", "best"),
    [
        (small_cache, 8, 2),
        (small_cache, 5, 3),  # 3 and 2; as good as 2, 2 and 1, and fewer
        (lambda size: size, 8, 8),  # nothing is gained, so the batch stays whole
        (lambda size: 1 + size, 8, 8),
        (lambda size: size**2, 8, 1),
        (lambda size: size if size == 1 else size / (CHEAPER + 0.01), 8, 8),  # too little is gained
        (lambda size: size, 1, 1),
    ],
)
def test_the_portions_are_those_that_cost_least(cost: Cost, batch_size: int, best: int) -> None:
    portions, model = settled(cost, batch_size)
    assert portions.size == best
    before = len(model.sizes)
    portions.run(range(batch_size), model)
    assert max(model.sizes[before:]) == best


def test_a_disturbed_batch_is_forgotten() -> None:
    """One of the trials of the best size takes a hundred times as long."""
    calls = iter(range(10**6))
    portions, _ = settled(lambda size: small_cache(size) * (100 if next(calls) == 3 else 1), 8)
    assert portions.size == 2


def test_a_model_that_divides_batches_itself_gets_them_whole() -> None:
    model = Model(small_cache)
    portions = Portions(8, divided=False, now=lambda: model.now)
    for _ in range(20):
        portions.run(range(8), model)
    assert set(model.sizes) == {8}


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_fewer_images_than_a_batch_are_answered_and_not_timed(count: int) -> None:
    model = Model(small_cache)
    portions = Portions(8, now=lambda: model.now)
    assert portions.run(range(count), model) == [2 * i for i in range(count)]
    assert len(portions.coming) == len(portions.times) * ROUNDS


def test_an_error_of_the_model_is_raised() -> None:
    def failing(_: Sequence[int]) -> list[int]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Portions(4).run(range(4), failing)


@pytest.mark.parametrize("name", ["dynamic.onnx", "fixed4.onnx"])
def test_answers_do_not_depend_on_the_portions(data: Path, photo: np.ndarray, name: str) -> None:
    """Every size is tried on these batches; scores agree to 1e-5, as those of batches and single calls do."""
    classify = Classifier(data / name)
    images = [np.roll(photo, i, axis=1) for i in range(4 * 3 * ROUNDS + 2)]
    found = list(classify.batch(images, batch_size=4))
    for image, answer in zip(images, found, strict=True):
        alone = classify(image)
        assert not isinstance(answer, Exception)
        assert [each.index for each in answer] == [each.index for each in alone]
        assert [each.score for each in answer] == pytest.approx([each.score for each in alone], abs=1e-5)
