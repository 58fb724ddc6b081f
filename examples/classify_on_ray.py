"""A folder of images over a Ray cluster, with Ray Data: python classify_on_ray.py BUNDLE FOLDER [WORKERS].

`vit-edge classify --engine ray` needs no program; this is for a table that Ray Data already holds.
"""

import sys
from pathlib import Path

import ray

from vit_edge import BatchClassifier

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main(bundle: str, folder: str, workers: str = "2") -> None:
    """Print the lines in the order of the names; `id` restores it, as workers finish when they do.

    Each worker takes a CPU until the end: a table that tasks read first needs one more.
    """
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    rows = [{"id": number, "image": path} for number, path in enumerate(paths)]
    images = ray.data.from_items(rows, override_num_blocks=min(4 * int(workers), len(rows)))
    answers = images.map_batches(
        BatchClassifier,
        fn_constructor_args=(str(Path(bundle).absolute()),),
        compute=ray.data.ActorPoolStrategy(size=int(workers)),
        batch_size=16,
    )
    for row in sorted(answers.take_all(), key=lambda row: row["id"]):
        print(f"{row['image']}: {row['error'] or '{label} {score:.2f}'.format(**row)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
