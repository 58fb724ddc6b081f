"""Masks as pictures beside the rows of a job: grey PNG, the index of the class in each pixel."""

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.errors import UsageError
from vit_edge.files import write_file
from vit_edge.runtime.predict.segmentation import UNSEEN

SUFFIX = ".masks"  # of the folder, behind the stem of the results
LEFT_OUT = 255  # what the model did not see, as in true masks; 65535 where classes need 16 bits
_BYTE = 254  # the largest index that 8 bits have beside it


def mask_folder(results: Path) -> Path:
    """Where the masks of a file of results lie."""
    return results.with_name(results.stem + SUFFIX)


def mask_name(image: str) -> str:
    """What the mask of an image is called: by its name, and by all of its path, so that no two are alike."""
    digest = hashlib.sha256(image.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{Path(image).stem.encode('ascii', 'replace').decode().replace('?', '_')[:80]}.{digest}.png"


def write_mask(path: Path, mask: npt.NDArray[np.int32]) -> None:
    """Write a mask (height, width), complete or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    wide = int(mask.max(initial=0)) > _BYTE
    kind = np.uint16 if wide else np.uint8
    left_out = np.iinfo(kind).max if wide else LEFT_OUT
    stream = io.BytesIO()
    Image.fromarray(np.where(mask == UNSEEN, left_out, mask).astype(kind)).save(stream, "PNG")
    try:
        path.parent.mkdir(exist_ok=True)
        write_file(path, stream.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from error
