"""Photos of a wanted resolution out of photos of any, for measurements that need large files."""

import io
from pathlib import Path

from PIL import Image

QUALITY = 90  # of JPEG, as cameras have it


def jpeg_of(path: Path, pixels: int) -> bytes:
    """The photo enlarged or reduced to about so many pixels, its aspect ratio kept, as a JPEG file."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = (pixels / (image.width * image.height)) ** 0.5
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
