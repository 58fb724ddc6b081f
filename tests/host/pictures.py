"""Pictures that show every stage of preprocessing, and folders of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vit_edge.runtime.evaluate.dataset import ImageSet, list_images


def picture(seed: int, width: int = 61, height: int = 47) -> Image.Image:
    """Smooth blobs with noise: every stage shows in it."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(
        np.clip(smooth + generator.integers(-30, 30, smooth.shape), 0, 255).astype(np.uint8)
    )


def pictures_in(folder: Path, count: int) -> ImageSet:
    """Write so many of them, each of another size."""
    for seed in range(count):
        picture(seed, 60 + seed, 50 - seed).save(folder / f"{seed}.png")
    return list_images(folder)


def smooth_folders(root: Path, counts: Mapping[str, int]) -> None:
    """Write smooth images of 25 to 29 x 20 pixels without labels: folder name -> how many."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir()
        for index in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), np.uint8))
            coarse.resize((25 + index % 5, 20), Image.Resampling.BICUBIC).save(root / name / f"{index}.png")
