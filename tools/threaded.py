"""Many threads share one classifier: is every answer the one that a single thread gets?

Usage: python -m tools.threaded --model BUNDLE [--images DIR] [--predictions N] [--threads N] [--json FILE]

Each thread takes the images in an order of its own, some of them refused ones, some calls with arrays, some
in batches of one, so that decoding, errors and runs of the model overlap. Labels and scores must be equal to
the last bit. The exit status is 1 where one differs.
"""

import argparse
import dataclasses
import io
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_edge import Classifier, ImageError, Prediction
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.source import ImageSource

Answer = list[Prediction] | str  # what was answered, or the message of an ImageError


@dataclasses.dataclass(frozen=True)
class Threaded:
    """What was compared."""

    predictions: int
    threads: int
    sources: int
    differ: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)


def compare_threads(
    classify: Classifier, sources: Sequence[ImageSource], predictions: int, threads: int
) -> Threaded:
    """Answers of many threads against those of one.

    Args:
        classify: one for all threads.
        sources: images, which may be bad ones.
        predictions: how many in all, spread evenly over the threads.
        threads: how many at a time.
    """
    serial = [answer_of(classify, source) for source in sources]
    differing = [0] * threads
    barrier = threading.Barrier(threads)
    each = -(-predictions // threads)

    def work(number: int) -> None:
        order = random.Random(number)  # noqa: S311  an order, no secret
        barrier.wait()
        for _ in range(each):
            index = order.randrange(len(sources))
            in_batch = order.random() < 0.25
            differing[number] += answer_of(classify, sources[index], in_batch) != serial[index]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = round(time.perf_counter() - began, 1)
    return Threaded(each * threads, threads, len(sources), sum(differing), seconds)


def answer_of(classify: Classifier, source: ImageSource, in_batch: bool = False) -> Answer:
    """All that is said of one image."""
    try:
        answer = next(classify.batch([source], 1)) if in_batch else classify(source)
    except ImageError as error:
        return str(error)
    return str(answer) if isinstance(answer, ImageError) else answer


def drawn_sources(count: int) -> list[ImageSource]:
    """Noise as arrays and in files of three formats, some of them cut."""
    generator = np.random.default_rng(0)
    sources: list[ImageSource] = []
    for index in range(count):
        side = int(generator.integers(20, 400))
        pixels = generator.integers(0, 256, (side, side + index, 3), np.uint8)
        form = ("JPEG", "PNG", "WEBP", None)[index % 4]
        if form is None:
            sources.append(pixels)
            continue
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form)
        data = stream.getvalue()
        sources.append(data[: len(data) // 2] if index % 7 == 0 else data)
    return sources


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="ONNX file or bundle")
    parser.add_argument("--images", type=Path, help="folder of photos (default: noise in several formats)")
    parser.add_argument("--predictions", type=int, default=16_000)
    parser.add_argument("--threads", type=int, default=8, help="that share the classifier")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    # One thread within an operator: sums are then taken in the same order in every run.
    classify = Classifier(args.model, provider="cpu", threads=1)
    sources = drawn_sources(64) if args.images is None else list(list_images(args.images).paths)
    found = compare_threads(classify, sources, args.predictions, args.threads)
    print(
        f"{found.predictions} predictions by {found.threads} threads on {found.sources} images in "
        f"{found.seconds} s: {found.differ} differ from those of one thread"
    )
    if args.json is not None:
        args.json.write_text(
            json.dumps(found.to_json() | {"machine": describe_machine().to_json()}, indent=1)
        )
    return 1 if found.differ else 0


if __name__ == "__main__":
    sys.exit(main())
