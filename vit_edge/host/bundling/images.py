"""The images of a build: which calibrate, which check, and what is true of them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from vit_edge.errors import DatasetError, UsageError
from vit_edge.files import read_file
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.sources import Source
from vit_edge.runtime.evaluate.dataset import ImageSet, list_images, read_grouped, read_images
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.evaluate.truth.masks import MaskTruth
from vit_edge.runtime.evaluate.truth.read import with_truth
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.spec import OutputKind
from vit_edge.verify.least import Known, least_images, least_of_embeddings

HELD_OUT_EVERY = 4  # without check images, every fourth calibration image becomes one
_MAX_BYTES = 2**31  # of an image


@dataclasses.dataclass(frozen=True)
class BuildImages:
    """Which images calibrate, and which check; no image does both."""

    calibration: tuple[Path, ...]
    check: ImageSet
    held_out: bool
    """The check images were taken from the calibration folder."""
    left_out: int
    """Calibration images that are check images, too, and so were not used."""


def choose_images(
    calibration: Path,
    data: Path | None,
    labels: Sequence[str],
    class_ids: Path | None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    kind: OutputKind = OutputKind.SINGLE_LABEL,
) -> BuildImages:
    """Keep calibration and check apart.

    Args:
        calibration: folder of images, labels not needed.
        data: folder that `read_images` reads, or None to hold out every fourth calibration image.
        labels: the model's, in index order.
        class_ids: file with one id per class, where the folders of `data` are named so.
        limits: what all of them are decoded within.
        kind: of the model, and so of the labels of `data`.

    Raises:
        DatasetError: a folder that cannot be read, or none left to calibrate or to check with.
    """
    given = list_images(calibration, limits)
    if data is None:
        held = given.paths[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        if not held:
            raise DatasetError(
                f"{calibration} holds {len(given)} images, too few to hold out every fourth as a check: "
                "give more of them, or a folder of check images"
            )
        chosen = tuple(path for path in given.paths if path not in set(held))
        return BuildImages(chosen, ImageSet(given.name, held, None, limits), held_out=True, left_out=0)
    ids = None if class_ids is None else read_class_ids(class_ids)
    if kind.task is OutputKind.EMBEDDING:
        check = read_grouped(data, ids, limits)  # only which images are of one class matters
    else:
        check = read_images(data, labels, ids, limits, kind)
    known = _contents(check.paths)
    chosen = tuple(path for path in given.paths if not _contents([path]) <= known)
    if not chosen:
        raise DatasetError(
            f"every image of {calibration} is also in {data}: calibrate on images that the check does not use"
        )
    return BuildImages(chosen, check, held_out=False, left_out=len(given) - len(chosen))


def images_for(source: Source, settings: BuildSettings) -> BuildImages:
    """The images that a build was asked to use, with what is true of those that check, where that is stated.

    Raises:
        DatasetError: as in `choose_images`, or truth that is not of these images.
        UsageError: truth of places for a model that gives none.
    """
    limits, kind = settings.quantize.limits, source.output
    images = choose_images(
        settings.calibration, settings.data, source.labels, settings.class_ids, limits, kind
    )
    return dataclasses.replace(images, check=_with_truth(source, settings.truth, images.check))


def too_few(source: Source, settings: BuildSettings, images: ImageSet) -> str | None:
    """One line where no model could pass on so few check images, whatever it is like; else None."""
    kind = source.output
    if kind.task is OutputKind.EMBEDDING:
        least = least_of_embeddings(settings.embedding_tolerance, grouped=images.labelled)
        widened = "--min-cosine-tail or another limit"
    else:
        least = least_images(kind, _known(images), settings.tolerance)
        widened = "--max-drop" if images.labelled else "--max-changed"
    if least is not None and len(images) >= least:
        return None
    takes = "not even a million are enough" if least is None else f"it takes {least} at the least"
    return (
        f"{len(images)} check images can prove no PASS by {widened}, even of a model that changes nothing: "
        f"{takes}; give more with --data, or accept more with {widened}"
    )


def _known(images: ImageSet) -> Known:
    """What is known to be true of check images."""
    if images.truth is not None:
        return Known.MASKS if isinstance(images.truth, MaskTruth) else Known.BOXES
    return Known.LABELS if images.labelled else Known.NOTHING


def _with_truth(source: Source, truth: Path | None, images: ImageSet) -> ImageSet:
    """The check images, with what is true of them where that is stated."""
    if truth is None:
        return images
    if source.onnx_path is None:
        raise UsageError(f"--truth is of models of boxes or maps, and {source.name} is none; leave it out")
    model = read_model(source.onnx_path, wanted=OutputWanted(source.output_name, source.output))
    return with_truth(images, truth, model.maps, source.labels)


def _contents(paths: Sequence[Path]) -> set[str]:
    hashes = set()
    for path in paths:
        try:
            hashes.add(hashlib.sha256(read_file(path, _MAX_BYTES)).hexdigest())
        except OSError as error:
            raise DatasetError(
                f"image {path} cannot be read ({error.strerror}); repair or remove it"
            ) from None
    return hashes
