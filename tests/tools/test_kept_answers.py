"""What a slow simulator has answered is not asked again, and never stands in for another answer."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tools.kept_answers import Kept, kept_answers, spread_order
from vit_edge.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)


class Simulator:
    """Its logits are sums of pixels; it breaks off at the image after the last that it may answer."""

    def __init__(self, most: int = 10) -> None:
        self.asked: list[int] = []
        self.most = most

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Sums by colour."""
        if len(self.asked) == self.most:
            raise KeyboardInterrupt
        self.asked.append(len(pixels))
        return np.asarray(pixels.sum(axis=(1, 2)), np.float32)


def logits(
    session: Simulator,
    folder: Path | None,
    pixels: npt.NDArray[np.uint8] = PIXELS,
    model: bytes = b"model",
    runs: str = "1.0",
) -> npt.NDArray[np.float32]:
    return kept_answers(session, pixels, model, runs, Kept(folder)).logits


def test_an_answer_that_is_kept_is_not_asked_again(tmp_path: Path) -> None:
    first, again = Simulator(), Simulator()
    made = logits(first, tmp_path)
    np.testing.assert_array_equal(made, PIXELS.sum(axis=(1, 2)))
    np.testing.assert_array_equal(logits(again, tmp_path), made)
    assert (len(first.asked), again.asked) == (3, [])


def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        logits(Simulator(2), tmp_path)
    rest = Simulator()
    made = logits(rest, tmp_path)
    assert len(rest.asked) == 1
    np.testing.assert_array_equal(made, PIXELS.sum(axis=(1, 2)))


@pytest.mark.parametrize(
    ("pixels", "model", "runs"),
    [(PIXELS ^ 1, b"model", "1.0"), (PIXELS, b"other", "1.0"), (PIXELS, b"model", "1.1")],
    ids=["other images", "another file", "another version"],
)
def test_an_answer_to_something_else_is_not_taken(
    tmp_path: Path, pixels: npt.NDArray[np.uint8], model: bytes, runs: str
) -> None:
    logits(Simulator(), tmp_path)
    other = Simulator()
    made = logits(other, tmp_path, pixels, model, runs)
    assert len(other.asked) == 3
    np.testing.assert_array_equal(made, pixels.sum(axis=(1, 2)))


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logits(Simulator(), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"abc", np.full(3, np.nan, "<f4").tobytes()])
def test_a_kept_file_that_holds_no_logits_is_refused(tmp_path: Path, data: bytes) -> None:
    logits(Simulator(), tmp_path, PIXELS[:1])
    (path,) = tmp_path.rglob("*.float32")
    path.write_bytes(data)
    with pytest.raises(UsageError, match="holds no kept answer; remove it"):
        logits(Simulator(), tmp_path, PIXELS[:1])


def test_no_more_images_are_run_than_one_may(tmp_path: Path) -> None:
    session = Simulator()
    made = kept_answers(session, PIXELS, b"model", "1.0", Kept(tmp_path, 2))
    assert len(session.asked) == 2
    assert made.places.tolist() == [0, 2]
    np.testing.assert_array_equal(made.logits, PIXELS[[0, 2]].sum(axis=(1, 2)))
    done = kept_answers(Simulator(0), PIXELS, b"model", "1.0", Kept(tmp_path, 0))
    np.testing.assert_array_equal(done.logits, made.logits)


def test_nothing_kept_and_nothing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allow some with --more"):
        kept_answers(Simulator(), PIXELS, b"model", "1.0", Kept(tmp_path, 0))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 200])
def test_what_is_done_is_spread_over_all_at_any_time(count: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    for done in range(2, count):
        gaps = np.diff([-1, *sorted(order[:done]), count])
        assert gaps.max() <= 4 * count / done
