"""Our pixels beside those of torchvision, of timm's evaluation transform and of transformers on torchvision.

Needs torchvision, timm and transformers, which the project does not: an environment of its own, with this
package. Torchvision's and timm's transforms work on Pillow images and must give our pixels bit for bit. The
processors that transformers runs on torchvision's tensors resize with another implementation, so for these
the largest difference of each photograph is counted.

    python -m tools.check_torchvision DIR
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.preprocess import normalize, to_pixels
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = {Interpolation.BILINEAR: 2, Interpolation.BICUBIC: 3}
TIMM = (((3, 224, 224), 0.9), ((3, 128, 128), 0.875), ((3, 112, 96), 0.9), ((3, 96, 160), 1.0))


def main() -> int:
    """Print the comparisons; 0 if all that must be equal is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, metavar="DIR", help="JPEG or PNG photographs")
    args = parser.parse_args()
    photos = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    unequal = sum(not _same_as_timm(image) for image in _made())
    print(f"timm's transform on generated images of many sizes: {unequal} differ")
    crops = sum(not _same_crop(image) for image in _made())
    print(f"torchvision's CenterCrop, smaller and larger than the image: {crops} differ")
    for kind in FILTERS:
        largest = np.bincount([_fast_difference(decode(path), kind) for path in photos])
        print(
            f"transformers on torchvision, {kind.value}: photographs by largest difference {largest.tolist()}"
        )
    return 1 if unequal or crops else 0


def _made() -> Iterator[Image.Image]:
    generator = np.random.default_rng(0)
    for width in (1, 7, 130, 131, 132, 133, 300):
        for height in (2, 90, 129, 130, 131, 224, 900):
            yield Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))


def _same_as_timm(image: Image.Image) -> bool:
    from timm.data import create_transform

    from vit_edge.host.sources.archs import evaluation

    same = True
    for size, share in TIMM:
        made = create_transform(size, interpolation="bicubic", mean=MEAN, std=STD, crop_pct=share)
        spec = evaluation(size[1:], share, Interpolation.BICUBIC, MEAN, STD)
        ours = normalize(to_pixels(image, spec)[None], spec)[0]
        same = same and bool(np.abs(ours - made(image).numpy()).max() <= 2e-6)
    return same


def _same_crop(image: Image.Image) -> bool:
    from torchvision.transforms import CenterCrop

    same = True
    for height, width in ((128, 128), (127, 250), (301, 131)):
        spec = PreprocessSpec(
            height, width, ResizeMode.NONE, (height, width), Interpolation.BICUBIC, MEAN, STD
        )
        same = same and np.array_equal(to_pixels(image, spec), np.asarray(CenterCrop((height, width))(image)))
    return same


def _fast_difference(image: Image.Image, kind: Interpolation) -> int:
    from transformers.models.vit.image_processing_vit import ViTImageProcessor

    spec = PreprocessSpec(224, 224, ResizeMode.EXACT, (224, 224), kind, MEAN, STD, CropRule.TRANSFORMERS_FAST)
    processor: Any = ViTImageProcessor(resample=FILTERS[kind], do_rescale=False, do_normalize=False)
    theirs = processor(image, return_tensors="pt")["pixel_values"][0].permute(1, 2, 0).numpy()
    return int(np.abs(to_pixels(image, spec).astype(int) - theirs).max())


if __name__ == "__main__":
    sys.exit(main())
