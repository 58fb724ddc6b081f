"""Scenes: what is found alike, and that an interval over scenes covers whatever copies there are."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify import judge
from vit_edge.verify.copies import (
    SIDE,
    SceneFinder,
    Scenes,
    contradictions,
    find_scenes,
    first_of_each,
    unseen_limit,
)
from vit_edge.verify.paired import score_interval


def photos(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random pictures, (N, 64, 64, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC)) for each in coarse]
    )


def thumbnails(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BOX)) for each in pictures]
    )


def changed(pictures: NDArray[np.uint8], how: str) -> NDArray[np.uint8]:
    if how == "noise":
        noise = np.random.default_rng(1).normal(0, 6, pictures.shape)
        noisy: NDArray[np.uint8] = np.clip(pictures + noise, 0, 255).astype(np.uint8)
        return noisy
    if how == "brighter":
        brighter: NDArray[np.uint8] = np.clip(pictures * 1.1 + 4, 0, 255).astype(np.uint8)
        return brighter
    moved: NDArray[np.uint8] = np.roll(pictures, 1, axis=2)
    return moved


def logits_of(count: int, classes: int = 10, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, (count, classes)).astype(np.float32)


@pytest.mark.parametrize("how", ["noise", "brighter", "moved"])
def test_a_changed_copy_is_of_the_scene_of_its_original(how: str) -> None:
    pictures, logits = photos(40), logits_of(40)
    both = np.concatenate([thumbnails(pictures), thumbnails(changed(pictures, how))])
    scenes = find_scenes(both, np.concatenate([logits, logits + 0.05]))
    assert scenes.count == 40
    assert scenes.of[:40].tolist() == scenes.of[40:].tolist()
    assert scenes.weights.tolist() == [0.5] * 80


def test_different_pictures_are_scenes_of_their_own() -> None:
    scenes = find_scenes(thumbnails(photos(300)), logits_of(300))
    assert scenes.count == 300
    assert scenes.groups == ()


def test_alike_pictures_that_the_model_takes_for_something_else_are_kept_apart() -> None:
    pictures = thumbnails(photos(30))
    scenes = find_scenes(np.concatenate([pictures, pictures]), logits_of(60))
    assert scenes.count > 55


def test_pictures_without_structure_are_not_said_to_be_alike() -> None:
    plain = np.broadcast_to(np.arange(100, 130, dtype=np.uint8)[:, None, None, None], (30, SIDE, SIDE, 3))
    assert find_scenes(plain, np.ones((30, 3), np.float32)).count == 30


def test_with_hundreds_of_classes_logits_alone_tell_a_mirrored_copy() -> None:
    pictures, logits = photos(30), logits_of(30, 500)
    both = np.concatenate([thumbnails(pictures), thumbnails(pictures[:, :, ::-1])])
    near = logits + np.random.default_rng(3).normal(0, 0.3, logits.shape).astype(np.float32)
    assert find_scenes(both, np.concatenate([logits, near])).count == 30


def test_batch_by_batch_an_image_of_a_known_scene_does_not_begin_one() -> None:
    pictures, logits = thumbnails(photos(20)), logits_of(20)
    finder = SceneFinder(unseen_limit(10))
    assert finder.add(pictures, logits).all()
    assert not finder.add(pictures[5:9], logits[5:9]).any()
    assert finder.scenes().groups == ((5, 20), (6, 21), (7, 22), (8, 23))


def test_copies_are_left_out_and_contradicting_labels_counted() -> None:
    digests = ("a", "b", "a", "c", "b", "a")
    assert first_of_each(digests).tolist() == [0, 1, 3]
    assert contradictions(digests, np.array([0, 1, 0, 2, 2, 1])) == 2


@pytest.mark.parametrize("copies", [2, 5, 20])
def test_the_interval_covers_whatever_number_of_copies_each_scene_has(copies: int) -> None:
    """Uncorrected, 95 % intervals cover the true drop in 83, 62 and 34 % of cases."""
    rng, runs, n, lost, gained = np.random.default_rng(copies), 60, 150, 0.05, 0.03
    covered = naive = 0
    for _ in range(runs):
        outcome = rng.choice(3, n, p=[lost, gained, 1 - lost - gained])
        scenes = Scenes(np.repeat(np.arange(n), copies))
        every = np.repeat(outcome, copies)
        labels = np.zeros(len(every), np.int64)
        float_logits = np.where((every == 1)[:, None], [0.0, 1.0], [1.0, 0.0]).astype(np.float32)
        quant_logits = np.where((every == 0)[:, None], [0.0, 1.0], [1.0, 0.0]).astype(np.float32)
        report = judge(float_logits, quant_logits, labels, Tolerance(50.0), scenes=scenes)
        assert report.drop_ci95 is not None
        assert report.evidence.scenes == n
        covered += report.drop_ci95[0] <= 100 * (lost - gained) <= report.drop_ci95[1]
        low, high = score_interval(int((every == 0).sum()), int((every == 1).sum()), len(every), 0.95)
        naive += low <= lost - gained <= high
    assert covered / runs >= 0.9  # 60 runs have a standard error of 2.8 points
    assert naive < covered


def test_scenes_of_unequal_size_count_one_each() -> None:
    """A scene of ninety images that all changed is one loss among eleven scenes."""
    scenes = Scenes(np.concatenate([np.zeros(90, np.intp), np.arange(1, 11)]))
    labels = np.zeros(100, np.int64)
    float_logits = np.tile(np.array([[1.0, 0.0]], np.float32), (100, 1))
    quant_logits = np.where(np.arange(100)[:, None] < 90, [[0.0, 1.0]], [[1.0, 0.0]]).astype(np.float32)
    report = judge(float_logits, quant_logits, labels, Tolerance(), scenes=scenes)
    assert report.drop == pytest.approx(100 / 11)
    assert report.top1_float == 100.0
    assert report.top1_quant == pytest.approx(100 * 10 / 11)
    assert report.agreement == pytest.approx(100 * 10 / 11)
    assert (report.n, report.evidence.only_float_right, report.verdict) == (100, 90, Verdict.UNDECIDED)
