"""True boxes from a file in COCO's form, and a detector's boxes held against them.

Of the file are read `images` (id, file_name, and width and height where they stand), `categories` (id, name)
and `annotations` (image_id, category_id, bbox as left, top, width, height in pixels, iscrowd); see
https://cocodataset.org/#format-data. An image without annotations has no objects.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_edge import fields
from vit_edge.errors import DatasetError, ModelError
from vit_edge.files import read_file
from vit_edge.runtime.evaluate.labels import normalized
from vit_edge.runtime.evaluate.truth.base import Maps, Named, Size, Truth, absent, left_out, upright_size
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import seen_box
from vit_edge.runtime.model.maps import DetectionOutputs
from vit_edge.runtime.predict.detection import Place, in_pixels
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.average_precision import BoxScores
from vit_edge.verify.boxes import read_boxes
from vit_edge.verify.matching import TrueBoxes, match_boxes

_MAX_BYTES = 256 * 2**20
_MAX_VALUES = 50_000_000  # with outlines, as COCO's files have them


@dataclasses.dataclass(frozen=True, eq=False)
class BoxTruth(Truth):
    """True boxes of images."""

    boxes: Mapping[Path, TrueBoxes]
    """In pixels of the upright image."""
    sizes: Mapping[Path, Size]
    classes: int
    """Of the model."""
    spoken: frozenset[int]
    """Classes that truth knows; boxes of any other count neither way."""
    outputs: DetectionOutputs
    notes: tuple[str, ...] = ()

    def scores(self, paths: Sequence[Path], made: Maps, spec: PreprocessSpec) -> BoxScores:
        """See `Truth`.

        Raises:
            ModelError: boxes that are not finite.
        """
        logits, boxes = made[self.outputs.logits], made[self.outputs.boxes]
        if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
            raise ModelError("a model gives boxes that are not finite; check the export")
        matches, objects = [], []
        for path, own, places in zip(paths, logits, boxes, strict=True):
            height, width = self.sizes[path]
            found = read_boxes(own, places)
            corners = in_pixels(found.corners, Place((height, width), seen_box(width, height, spec)))
            kept = (corners[:, 2:] > corners[:, :2]).all(axis=1) & np.isin(found.classes, [*self.spoken])
            true = self.boxes[path]
            matches.append(match_boxes(found.classes[kept], found.scores[kept], corners[kept], true))
            objects.append(np.bincount(true.classes[~true.crowd], minlength=self.classes))
        return BoxScores(tuple(matches), np.asarray(objects, np.float64))


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the boxes are of."""

    paths: tuple[Path, ...]
    folder: str
    limits: DecodeLimits
    labels: Sequence[str] | None
    outputs: DetectionOutputs


def read_boxes_of(source: Path, asked: Asked) -> BoxTruth:
    """Read true boxes.

    Raises:
        DatasetError: no such file, no JSON of that form, categories that the model does not know, or images
            that are not there; the message names the file and what in it.
        ImageError: an image cannot be read.
    """
    where = str(source)
    try:
        raw = fields.mapping(
            fields.parse_json(read_file(source, _MAX_BYTES), where, _MAX_VALUES), f"{where}: the file"
        )
        classes, notes = _classes(raw, where, asked)
        found, sizes = _images(raw, where, asked)
        boxes = _boxes(raw, where, classes, found, sizes)
    except OSError as error:
        raise DatasetError(
            f"cannot read {source}: {error.strerror}; give a JSON file of COCO's form"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{error}; give a JSON file of COCO's form") from None
    if not any(len(each.classes) for each in boxes.values()):
        raise DatasetError(f"{where} has no box on any image of {asked.folder}; give images with objects")
    count = _class_count(asked)
    return BoxTruth(
        boxes,
        sizes,
        1 + max(classes.values()) if count is None else count,
        frozenset(classes.values()),
        asked.outputs,
        (*notes, *left_out(len(asked.paths) - len(boxes), where)),
    )


def _class_count(asked: Asked) -> int | None:
    return asked.outputs.classes if asked.labels is None else len(asked.labels)


def _classes(raw: dict[str, Any], where: str, asked: Asked) -> tuple[dict[int, int], tuple[str, ...]]:
    """The model's class of each category, and what was assumed."""
    names: dict[int, str] = {}
    for number, each in enumerate(_listed(raw, "categories", where)):
        place = f"{where}: categories[{number}]"
        index = fields.integer(each.get("id"), f"{place}.id", 0, 2**53)
        if index in names:
            raise ValueError(f"{place} has the id {index} of an earlier one")
        names[index] = fields.string(each.get("name"), f"{place}.name")
    if not names:
        raise ValueError(f"{where} has no categories")
    if asked.labels is None:
        count = asked.outputs.classes
        if count is not None and max(names) >= count:
            raise DatasetError(
                f"{where} has the category {max(names)} ({names[max(names)]!r}), and the model, which has no "
                f"labels, {count} classes; give it labels, or number categories as its classes from 0"
            )
        note = f"the model has no labels: ids of categories in {where} are taken for its classes"
        return {index: index for index in names}, (note,)
    exact = {label: index for index, label in enumerate(asked.labels)}
    loose = {normalized(label): index for index, label in enumerate(asked.labels)}
    classes: dict[int, int] = {}
    for index, name in names.items():
        found = exact.get(name, loose.get(normalized(name)))
        if found is None:
            raise DatasetError(
                f"{where} has the category {name!r}, which is none of the model's {len(asked.labels)} "
                "classes; name it as the model does, or take it out"
            )
        if found in classes.values():
            raise DatasetError(
                f"{where} has two categories for the model's class {asked.labels[found]!r}; keep one"
            )
        classes[index] = found
    return classes, ()


def _images(raw: dict[str, Any], where: str, asked: Asked) -> tuple[dict[int, Path], dict[Path, Size]]:
    """Images by their id, and their sizes."""
    named, found, missing = Named(asked.paths, whole=True), dict[int, Path](), list[str]()
    stated: dict[Path, tuple[Any, Any]] = {}
    listed = _listed(raw, "images", where)
    for number, each in enumerate(listed):
        place = f"{where}: images[{number}]"
        index = fields.integer(each.get("id"), f"{place}.id", 0, 2**53)
        name = fields.string(each.get("file_name"), f"{place}.file_name")
        path = named.find(name, where)
        if path is None:
            missing.append(name)
            continue
        if index in found or path in stated:
            raise ValueError(f"{place} repeats an earlier image ({name!r}, id {index})")
        found[index], stated[path] = path, (each.get("width"), each.get("height"))
    if missing or not listed:
        raise DatasetError(absent(missing or ["none"], len(listed) or 1, where, asked.folder))
    sizes = {path: upright_size(path, asked.limits) for path in stated}
    for path, (width, height) in stated.items():
        if (width, height) not in ((None, None), sizes[path][::-1]):
            raise DatasetError(
                f"{where} says {fields.shown(width)} x {fields.shown(height)} pixels of {path.name}, which "
                f"is {sizes[path][1]} x {sizes[path][0]} upright: its boxes would lie elsewhere; give the "
                "images that it is of"
            )
    return found, sizes


def _boxes(
    raw: dict[str, Any],
    where: str,
    classes: Mapping[int, int],
    images: Mapping[int, Path],
    sizes: Mapping[Path, Size],
) -> dict[Path, TrueBoxes]:
    own: dict[Path, list[tuple[int, list[float], bool]]] = {path: [] for path in images.values()}
    for number, each in enumerate(_listed(raw, "annotations", where)):
        place = f"{where}: annotations[{number}]"
        image, category = (
            fields.integer(each.get(name), f"{place}.{name}", 0, 2**53)
            for name in ("image_id", "category_id")
        )
        if image not in images:
            raise ValueError(f"{place} is of the image {image}, which `images` does not have")
        if category not in classes:
            raise ValueError(f"{place} is of the category {category}, which `categories` does not have")
        crowd = fields.choice(each.get("iscrowd", 0), f"{place}.iscrowd", (0, 1)) == 1
        corners = _corners(each.get("bbox"), f"{place}.bbox", sizes[images[image]])
        own[images[image]].append((classes[category], corners, crowd))
    return {
        path: TrueBoxes(
            np.asarray([each[0] for each in boxes], np.intp),
            np.asarray([each[1] for each in boxes], np.float64).reshape(-1, 4),
            np.asarray([each[2] for each in boxes], np.bool_),
        )
        for path, boxes in own.items()
    }


def _corners(raw: object, where: str, size: Size) -> list[float]:
    values = [fields.number(each, f"each number of {where}") for each in fields.sequence(raw, where)]
    if len(values) != 4 or min(values[2:]) <= 0:
        raise ValueError(
            f"{where} must be left, top, and a width and height above 0, got {fields.shown(raw)}"
        )
    left, top, width, height = values
    if not (left < size[1] and top < size[0] and left + width > 0 and top + height > 0):
        raise ValueError(f"{where} {values} lies outside the image, which is {size[1]} x {size[0]}")
    return [left, top, left + width, top + height]


def _listed(raw: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """One of the three lists."""
    if name not in raw:
        raise ValueError(f"{where} has no {name!r}")
    items = fields.sequence(raw[name], f"{where}: {name}")
    return [fields.mapping(each, f"{where}: {name}[{number}]") for number, each in enumerate(items)]
