"""What a build does about the proof source -> float: it tries, and says why where that cannot be."""

import dataclasses
from pathlib import Path

from vit_edge.errors import DatasetError, VitEdgeError
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.reference.recorded import Recorded
from vit_edge.host.reference.types import Reference
from vit_edge.host.sources.types import Source
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.source_parity import SourceParity, not_proven

PROOF_IMAGES = 32  # of a build, spread evenly over the check images; `vit-edge parity` takes all


def attempted(
    source: Source, stated: Reference | None, float_model: Path, images: ImageSet, progress: Progress
) -> SourceParity:
    """The proof on some check images; NOT_PROVEN, with the reason, where the source's pipeline cannot run.

    Args:
        source: whose own pipeline is to answer.
        stated: what the user names to answer instead; that it fails is an error.
        float_model: the ONNX file.
        images: the check images.
        progress: told how far it is.

    Raises:
        VitEdgeError: the stated reference fails.
    """
    tell = step_of(progress, "source")
    if stated is not None:
        return prove(stated, float_model, covered(stated, images).limited(PROOF_IMAGES), progress=tell)
    try:
        return prove(own_reference(source), float_model, images.limited(PROOF_IMAGES), progress=tell)
    except VitEdgeError as error:
        return not_proven(str(error))


def covered(reference: Reference, images: ImageSet) -> ImageSet:
    """The images that a reference answers for, which is all of them unless it was recorded.

    Raises:
        DatasetError: none of them.
    """
    if not isinstance(reference, Recorded):
        return images
    paths = tuple(path for path in images.paths if path in reference)
    if not paths:
        raise DatasetError(
            f"{reference.name} name none of the images in {images.name}: give paths relative to that folder"
        )
    return dataclasses.replace(images, paths=paths, targets=None)
