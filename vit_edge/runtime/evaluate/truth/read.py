"""From what a user names as truth to images that carry it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.truth import boxes, masks
from vit_edge.runtime.evaluate.truth.base import Truth
from vit_edge.runtime.model.maps import Map, detection_outputs


def with_truth(
    images: ImageSet, source: Path | None, maps: Sequence[Map], labels: Sequence[str] | None
) -> ImageSet:
    """The images that truth speaks of, with it.

    Args:
        images: all there are.
        source: a JSON file of COCO's form for a detector, a folder of masks for other maps; None: no truth.
        maps: the outputs of the float model, at least one.
        labels: its classes.

    Raises:
        DatasetError: as in `read_boxes_of` and `read_masks`.
        ImageError: likewise.
    """
    if source is None:
        return images
    found, known = _read(images, source, maps, labels)
    rows = [row for row, path in enumerate(images.paths) if path in known]
    kept = dataclasses.replace(images, paths=tuple(images.paths[row] for row in rows), targets=None)
    return dataclasses.replace(kept, truth=found)


def truth_notes(images: ImageSet) -> tuple[str, ...]:
    """What was left out or assumed where truth was read; nothing of images that carry none."""
    return () if images.truth is None else images.truth.notes


def _read(
    images: ImageSet, source: Path, maps: Sequence[Map], labels: Sequence[str] | None
) -> tuple[Truth, frozenset[Path]]:
    outputs = detection_outputs(maps)
    if not source.exists():
        raise DatasetError(f"--truth {source} does not exist; check the path")
    if source.is_dir() != (outputs is None):
        wanted = "a folder of masks" if outputs is None else "a JSON file of COCO's form"
        given = "a folder" if source.is_dir() else "a file"
        raise DatasetError(
            f"--truth {source} is {given}; give {wanted}, as the model gives "
            f"{'maps' if outputs is None else 'boxes'}"
        )
    if outputs is not None:
        of_boxes = boxes.read_boxes_of(
            source, boxes.Asked(images.paths, images.name, images.limits, labels, outputs)
        )
        return of_boxes, frozenset(of_boxes.boxes)
    first = maps[0]
    if len(first.shape) != 3:
        raise DatasetError(
            f"{first.name} {list(first.shape)} is no map of classes, so that masks say nothing of it"
        )
    of_masks = masks.read_masks(
        source, masks.Asked(images.paths, images.name, images.limits, first.name, first.shape[0])
    )
    return of_masks, frozenset(of_masks.masks)
