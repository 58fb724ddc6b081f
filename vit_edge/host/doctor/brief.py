"""What `build` looks for in passing, at the cost of a few images: no other way to feed the model is tried."""

import numpy as np

from vit_edge.arrays import Pixels
from vit_edge.diagnosis import Finding
from vit_edge.host.doctor.inside import look_inside
from vit_edge.host.doctor.table import look_at_table
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.runtime.doctor import answers
from vit_edge.runtime.doctor.accuracy import LEAST_IMAGES, guessing
from vit_edge.runtime.doctor.examination import Examination
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import OutputKind, PreprocessSpec
from vit_edge.verify.arrays import Floats


def inner_findings(canonical: Canonical, preprocess: PreprocessSpec, pixels: Pixels) -> tuple[Finding, ...]:
    """What shows inside a canonical model that is not folded.

    Args:
        canonical: from `canonicalise`; one that is no canonical ViT has no findings.
        preprocess: of its images.
        pixels: (N, H, W, 3) uint8.
    """
    if canonical.description is None:
        return ()
    examination = Examination()
    look_at_table(canonical, examination)
    inside = look_inside(canonical, preprocess, pixels) if len(pixels) > 1 else []
    return (*examination.findings, *inside)


def outer_findings(model: ModelFile, logits: Floats, images: ImageSet) -> tuple[Finding, ...]:
    """What shows in the float model's labels and answers.

    Args:
        model: the float model.
        logits: (N, C) of it.
        images: the same N, labelled or not.
    """
    found = answers.duplicates(model.labels)
    if model.output.task is not OutputKind.SINGLE_LABEL:
        return tuple(found)
    still = answers.constant(logits, model.labels)
    truth = images.targets
    if truth is not None and len(truth) >= LEAST_IMAGES:
        truth = np.asarray(truth)
        still += [] if still else answers.missed(logits, truth, model.labels)
        found += guessing(logits, truth)
    return (*found, *still)
