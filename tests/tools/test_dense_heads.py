"""The heads for boxes and masks: their form, their losses, and which patch learns which object."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tools.dense_heads import (
    BoxHead,
    MaskHead,
    Objects,
    assigned,
    box_loss,
    generalized_overlap,
    to_corners,
)
from vit_edge.verify.boxes import overlaps

GRID, CLASSES, DIM = (4, 6), 3, 8
TWO = Objects(torch.tensor([0, 2]), torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.95]]))


def head() -> BoxHead:
    torch.manual_seed(0)
    return BoxHead(DIM, GRID, CLASSES, 16)


def a_grid(images: int = 2) -> Tensor:
    return torch.randn(images, DIM, *GRID, generator=torch.Generator().manual_seed(1))


def test_a_box_is_given_for_each_patch_and_lies_near_it() -> None:
    logits, boxes = head()(a_grid())
    assert logits.shape == (2, GRID[0] * GRID[1], CLASSES + 1)
    centres = boxes[..., :2].reshape(2, *GRID, 2)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            own = torch.tensor([(column + 0.5) / GRID[1], (row + 0.5) / GRID[0]])
            away = (centres[:, row, column] - own).abs() * torch.tensor([GRID[1], GRID[0]])
            assert away.max() <= 1.0
    assert 0 <= boxes[..., 2:].min() <= boxes[..., 2:].max() <= 1


def test_further_convolutions_let_a_patch_see_farther() -> None:
    """A change at one corner reaches as many patches as there are convolutions of three times three."""
    reached = []
    for further in (0, 2):
        torch.manual_seed(0)
        made = BoxHead(DIM, (9, 9), CLASSES, 16, further)
        here = torch.randn(1, DIM, 9, 9, generator=torch.Generator().manual_seed(2))
        there = here.clone()
        there[..., 0, 0] += 5.0
        moved = (made(here)[0] - made(there)[0]).abs().amax(-1).reshape(9, 9) > 1e-7
        reached.append(int(moved.any(dim=0).sum()))
    assert reached == [2, 4]


def test_a_mask_has_four_places_to_each_side_of_a_patch() -> None:
    assert MaskHead(DIM, 5, 6)(a_grid()).shape == (2, 5, 4 * GRID[0], 4 * GRID[1])


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_that_of_the_judge_where_the_hull_is_full(seed: int) -> None:
    """GIoU is IoU less the share of the hull that neither box covers; boxes of one row fill their hull."""
    draw = np.random.default_rng(seed)
    left, wide = draw.uniform(0, 0.4, 8), draw.uniform(0.4, 0.6, 8)
    one, other = (
        torch.from_numpy(
            np.stack([left[part], 0 * wide[part], left[part] + wide[part], 0 * wide[part] + 1], 1)
        )
        for part in (slice(4), slice(4, 8))
    )
    expected = np.diag(overlaps(one.numpy(), other.numpy()))
    np.testing.assert_allclose(generalized_overlap(one, other).numpy(), expected, atol=1e-12)


def test_boxes_apart_are_the_worse_the_farther_they_are() -> None:
    here = torch.tensor([[0.0, 0.0, 0.1, 0.1]]).expand(2, 4)
    there = torch.tensor([[0.2, 0.0, 0.3, 0.1], [0.8, 0.0, 0.9, 0.1]])
    near, far = generalized_overlap(here, there).tolist()
    assert near == pytest.approx(-1 / 3)  # a hull three boxes long, one of them uncovered
    assert far == pytest.approx(-7 / 9)


def test_each_object_is_taught_to_one_patch_within_its_box() -> None:
    made = head()
    logits, boxes = made(a_grid(1))
    places = (made.start[0] + made.scale / 2)[:, :2]
    patches, objects = assigned(logits[0], to_corners(boxes[0]), places, TWO)
    assert sorted(objects.tolist()) == [0, 1]
    assert len(set(patches.tolist())) == 2
    for patch, each in zip(patches, objects, strict=True):
        left, top, right, bottom = TWO.corners[each].tolist()
        assert left <= places[patch, 0] <= right
        assert top <= places[patch, 1] <= bottom


def test_the_loss_falls_to_nearly_nothing_on_two_images_that_are_learned_by_heart() -> None:
    made, grid = head(), a_grid()
    true = [TWO, Objects(torch.tensor([1]), torch.tensor([[0.3, 0.2, 0.7, 0.8]]))]
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    losses = []
    for _ in range(200):
        loss = box_loss(made, made(grid), true)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    logits, boxes = made(grid)
    sure = F.softmax(logits, dim=-1)[..., :CLASSES].amax(-1) > 0.5
    assert sure.sum(dim=1).tolist() == [2, 1]  # and no patch says the same again
    found = to_corners(boxes[1][sure[1]]).detach()
    np.testing.assert_allclose(found, true[1].corners, atol=0.05)


def test_an_image_without_objects_teaches_that_there_is_nothing() -> None:
    made, grid = head(), a_grid()
    nothing = Objects(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    both = box_loss(made, made(grid), [TWO, nothing])
    alone = box_loss(made, made(grid[:1]), [TWO])
    assert both > alone
