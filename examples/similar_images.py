"""The images of a folder that are most like one image: python similar_images.py BUNDLE FOLDER IMAGE."""

import sys
from pathlib import Path

import numpy as np

from vit_edge import Embedder

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main(bundle: str, folder: str, image: str) -> None:
    """Print the five closest by the cosine of their pooled embeddings."""
    embed = Embedder(bundle)

    def direction(path: str | Path) -> np.ndarray:
        pooled = embed(path).pooled
        return pooled / np.linalg.norm(pooled)

    wanted = direction(image)
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    close = sorted(((float(direction(path) @ wanted), path) for path in paths), reverse=True)
    for cosine, path in close[:5]:
        print(f"{cosine:.4f}  {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
