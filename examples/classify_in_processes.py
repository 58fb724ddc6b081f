"""A folder of images in several processes: python classify_in_processes.py BUNDLE FOLDER [PROCESSES]."""

import multiprocessing
import sys
from pathlib import Path

from vit_edge import Classifier, ImageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def begin(bundle: str) -> None:
    """Load the model once in each process; one thread, as the processes share the cores."""
    global classify  # noqa: PLW0603  what a pool's initializer makes has no other place
    classify = Classifier(bundle, threads=1)


def answer(path: Path) -> str:
    """A line for an image; of one that cannot be read, what is wrong with it."""
    try:
        best = classify(path, top_k=1)[0]
    except ImageError as error:
        return f"{path}: {error}"
    return f"{path}: {best.label} {best.score:.2f}"


def main(bundle: str, folder: str, processes: str = "2") -> None:
    """Print the lines in the order of the names."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    context = multiprocessing.get_context("spawn")  # a forked process would have to load the model anyway
    with context.Pool(int(processes), begin, (bundle,)) as pool:
        for line in pool.imap(answer, paths, chunksize=8):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
