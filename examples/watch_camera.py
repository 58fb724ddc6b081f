"""Classify what a camera writes into a folder, once each: python watch_camera.py BUNDLE FOLDER [SECONDS]."""

import sys
import time
from pathlib import Path

from vit_edge import Classifier, ImageError

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main(bundle: str, folder: str, seconds: str = "inf") -> None:
    """Print a line for each new image; one that is still being written is tried again."""
    classify, seen = Classifier(bundle), set[Path]()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        new = {path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES} - seen
        for path in sorted(new):
            try:
                best = classify(path, top_k=1)[0]
            except ImageError:
                continue  # perhaps not whole yet
            seen.add(path)
            print(f"{path.name}: {best.label} {best.score:.2f}", flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
