"""A folder of images with a batch function of Daft: python classify_on_daft.py BUNDLE FOLDER."""

import sys
from pathlib import Path

import daft
from daft import DataType

from vit_edge import BatchClassifier

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
ANSWER = DataType.struct(
    {
        "label": DataType.string(),
        "score": DataType.float64(),
        "index": DataType.int64(),
        "error": DataType.string(),
    }
)


def main(bundle: str, folder: str) -> None:
    """Print the lines in the order of the names."""
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    classify = daft.func.batch(return_dtype=ANSWER, unnest=True, batch_size=16)(BatchClassifier(bundle).rows)
    images = daft.from_pydict({"image": paths})
    for row in images.select("image", classify(images["image"])).sort("image").iter_rows():
        print(f"{row['image']}: {row['error'] or '{label} {score:.2f}'.format(**row)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
