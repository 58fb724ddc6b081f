"""A folder of images to a CSV of answers: python classify_folder.py BUNDLE FOLDER > answers.csv."""

import csv
import sys
from pathlib import Path

from vit_edge import Classifier, VitEdgeError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main(bundle: str, folder: str) -> None:
    """Write one row for each image; of an image that cannot be read, what is wrong with it."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    rows = csv.writer(sys.stdout)
    rows.writerow(["file", "label", "score", "error"])
    classify = Classifier(bundle)
    for path, answer in zip(paths, classify.batch(paths, top_k=1), strict=True):
        if isinstance(answer, VitEdgeError):
            rows.writerow([path, "", "", answer])
        else:
            rows.writerow([path, answer[0].label, f"{answer[0].score:.4f}", ""])


if __name__ == "__main__":
    main(*sys.argv[1:])
