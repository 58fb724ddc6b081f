"""Which earlier looks count, and that looking again and again does not inflate the error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.verify.looks import Looked, LookPlace, place_look
from vit_edge.verify.paired import score_interval
from vit_edge.verify.sequential import drop_sequence


def looks(*texts: str) -> list[Looked]:
    """A letter is an image."""
    return [frozenset(text) for text in texts]


@pytest.mark.parametrize(
    ("earlier", "images", "place"),
    [
        ([], "abc", LookPlace(1, 0, 0)),
        (["xyz"], "abc", LookPlace(1, 0, 0)),  # a fresh set
        (["abc"], "abcd", LookPlace(2, 3, 0)),
        (["abc", "abcd"], "abcdef", LookPlace(3, 4, 0)),
        (["abc", "xyz"], "abcd", LookPlace(2, 3, 0)),  # the fresh set between them has no part in it
        (["abc"], "abc", LookPlace(1, 0, 0)),  # the same look again
        (["abc", "abcd"], "abcd", LookPlace(2, 3, 0)),
        (["abc", "abcd"], "abc", LookPlace(1, 0, 0)),
        (["abc"], "ab", LookPlace(2, 2, 1)),  # leaves one out
        (["abc"], "cde", LookPlace(2, 1, 2)),
        (["abc", "ab"], "abcd", LookPlace(3, 3, 1)),  # whole, but stands upon a choice
    ],
)
def test_a_look_is_placed_by_the_images_it_shares(earlier: list[str], images: str, place: LookPlace) -> None:
    assert place_look(looks(*earlier), frozenset(images)) == place


def test_only_looks_that_leave_images_out_ask_for_more_confidence() -> None:
    assert LookPlace(1, 0, 0).confidence(0.95) == LookPlace(4, 9, 0).confidence(0.95) == 0.95
    assert LookPlace(2, 2, 1).confidence(0.95) == pytest.approx(1 - 0.05 / 2)
    assert LookPlace(3, 2, 1).confidence(0.95) == pytest.approx(1 - 0.05 / 6)


@given(
    st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1), max_size=6),
    st.frozensets(st.sampled_from("abcdef"), min_size=1),
)
def test_the_errors_of_all_choices_sum_to_no_more_than_one(earlier: list[Looked], images: Looked) -> None:
    place = place_look(earlier, images)
    assert place.number <= len(earlier) + 1
    assert place.again == (place.known > 0)
    shares = [(1 - LookPlace(k, 1, 1).confidence(0.95)) / 0.05 for k in range(2, 50)]
    assert sum(shares) < 1


def test_five_looks_at_a_growing_set_pass_wrongly_hardly_more_often_than_one() -> None:
    """The true drop is the tolerated one; uncorrected, 10 % of such series pass."""
    rng, runs, naive, corrected = np.random.default_rng(0), 250, 0, 0
    for _ in range(runs):
        lost = gained = n = 0
        verdicts = []
        for look in range(5):
            more = rng.multinomial(400, [0.02, 0.01, 0.97])
            lost, gained, n = lost + int(more[0]), gained + int(more[1]), n + 400
            fixed = score_interval(lost, gained, n, 0.95)[1] <= 0.01
            again = drop_sequence(lost, gained, n, 0.95)[1] <= 0.01 if look else fixed
            verdicts.append((fixed, again))
        naive += any(fixed for fixed, _ in verdicts)
        corrected += any(again for _, again in verdicts)
    assert naive / runs > 0.05
    assert corrected / runs < 0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5
