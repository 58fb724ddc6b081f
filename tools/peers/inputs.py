"""What every comparison is made of: images of two kinds, and the versions of its tools."""

import argparse
import dataclasses

from vit_edge.host.bundling.images import BuildImages, choose_images
from vit_edge.host.sources import Source
from vit_edge.runtime.device.machine import version_of
from vit_edge.runtime.evaluate.dataset import ImageSet


def images_of(given: argparse.Namespace, source: Source) -> BuildImages:
    """The same calibration images for every quantizer, none of them among the evaluated ones."""
    images = choose_images(given.calib, given.data, source.labels, None)
    calibration = ImageSet(given.calib.name, images.calibration, None).limited(given.calib_images)
    check = images.check if given.limit is None else images.check.limited(given.limit)
    return dataclasses.replace(images, calibration=calibration.paths, check=check)


def version(package: str) -> str:
    """For the record."""
    return version_of(package) or "not installed"
