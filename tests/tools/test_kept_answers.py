"""What a slow simulator has answered is not asked again, and never stands in for another answer."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tools.kept_answers import kept_answers
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


def test_an_answer_that_is_kept_is_not_asked_again(tmp_path: Path) -> None:
    first, again = Simulator(), Simulator()
    made = kept_answers(first, PIXELS, b"model", "1.0", tmp_path)
    np.testing.assert_array_equal(made, PIXELS.sum(axis=(1, 2)))
    np.testing.assert_array_equal(kept_answers(again, PIXELS, b"model", "1.0", tmp_path), made)
    assert (len(first.asked), again.asked) == (3, [])


def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept_answers(Simulator(2), PIXELS, b"model", "1.0", tmp_path)
    rest = Simulator()
    made = kept_answers(rest, PIXELS, b"model", "1.0", tmp_path)
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
    kept_answers(Simulator(), PIXELS, b"model", "1.0", tmp_path)
    other = Simulator()
    made = kept_answers(other, pixels, model, runs, tmp_path)
    assert len(other.asked) == 3
    np.testing.assert_array_equal(made, pixels.sum(axis=(1, 2)))


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept_answers(Simulator(), PIXELS, b"model", "1.0", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"abc", np.full(3, np.nan, "<f4").tobytes()])
def test_a_kept_file_that_holds_no_logits_is_refused(tmp_path: Path, data: bytes) -> None:
    kept_answers(Simulator(), PIXELS[:1], b"model", "1.0", tmp_path)
    (path,) = tmp_path.rglob("*.float32")
    path.write_bytes(data)
    with pytest.raises(UsageError, match="holds no kept answer; remove it"):
        kept_answers(Simulator(), PIXELS[:1], b"model", "1.0", tmp_path)
