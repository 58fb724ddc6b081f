"""Measures what fast decoding changes against exact decoding: pixel values, top-1 and time.

Three sets: the photos as they are and the photos enlarged to the resolution of a camera, both of which a
model then classifies; and the photos as they are, reduced to so small an input that they are decoded at a
fraction. The last has all the fine detail that enlarging cannot bring back, so its differences are nearer to
the worst that a sharp photo of a camera gives.

Where two classes are all but equal, any change of the pixels may turn one into the other. So top-1 is also
compared with a control: the exact pixels with as much noise, single grey levels up or down at random places.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.photos import jpeg_of
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import Decoding, load_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.metrics import log_softmax

SMALL_INPUT = 8  # the last set's input has this fraction of the model's side


Scores = Callable[[np.ndarray], np.ndarray]  # pixels (H, W, 3) -> probabilities (C,)


@dataclasses.dataclass
class Differences:
    """Absolute differences in grey levels, and changes of top-1, gathered over images."""

    means: list[float] = dataclasses.field(default_factory=list)
    largest: list[int] = dataclasses.field(default_factory=list)
    changed: list[float] = dataclasses.field(default_factory=list)  # share of values that are not the same
    seconds: dict[Decoding, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(Decoding, 0.0))
    agree: list[bool] = dataclasses.field(default_factory=list)  # stays empty without a model
    agree_noise: list[bool] = dataclasses.field(default_factory=list)
    lost_leads: list[float] = dataclasses.field(default_factory=list)  # of the exact top-1, where it changed

    def add(self, data: bytes, spec: PreprocessSpec, scores: Scores | None) -> None:
        """Compare both ways to decode one file."""
        pixels = {}
        for decoding in Decoding:
            started = time.perf_counter()
            pixels[decoding] = load_pixels(data, spec, decoding=decoding)
            self.seconds[decoding] += time.perf_counter() - started
        exact, fast = pixels[Decoding.EXACT], pixels[Decoding.FAST]
        difference = np.abs(exact.astype(np.int16) - fast)
        self.means.append(float(difference.mean()))
        self.largest.append(int(difference.max()))
        self.changed.append(float((difference > 0).mean()))
        if scores is not None:
            self._add_top1(scores(exact), scores(fast), scores(noisy(exact, self.means[-1])))

    def _add_top1(self, exact: np.ndarray, fast: np.ndarray, noise: np.ndarray) -> None:
        self.agree.append(bool(exact.argmax() == fast.argmax()))
        self.agree_noise.append(bool(exact.argmax() == noise.argmax()))
        if not self.agree[-1]:
            second, first = np.sort(exact)[-2:]
            self.lost_leads.append(float(first - second))

    def to_json(self) -> dict[str, Any]:
        """The figures; grey levels of 255, percent, ratios, probabilities."""
        figures: dict[str, Any] = {
            "images": len(self.means),
            "mean": float(np.mean(self.means)),
            "mean_of_worst_image": max(self.means),
            "max": max(self.largest),
            "changed_percent": 100 * float(np.mean(self.changed)),
            "images_unchanged": self.largest.count(0),
            "exact_time_over_fast": self.seconds[Decoding.EXACT] / self.seconds[Decoding.FAST],
        }
        if self.agree:
            figures["top1_agreement"] = 100 * float(np.mean(self.agree))
            figures["top1_agreement_of_noise"] = 100 * float(np.mean(self.agree_noise))
            figures["largest_lost_lead"] = max(self.lost_leads, default=0.0)
        return figures


def noisy(pixels: np.ndarray, mean: float) -> np.ndarray:
    """The pixels with single grey levels added or taken at random places, by `mean` on average."""
    generator = np.random.default_rng(0)
    steps = generator.choice([-1, 1], pixels.shape) * (generator.random(pixels.shape) < mean)
    return np.asarray(np.clip(pixels + steps, 0, 255), np.uint8)


def measure(files: Iterable[bytes], spec: PreprocessSpec, scores: Scores | None = None) -> dict[str, Any]:
    differences = Differences()
    for data in files:
        differences.add(data, spec, scores)
    return differences.to_json()


def smaller(spec: PreprocessSpec) -> PreprocessSpec:
    """The same recipe for an input of a fraction of the size."""
    height, width = spec.height // SMALL_INPUT, spec.width // SMALL_INPUT
    resize = (spec.resize[0] // SMALL_INPUT, spec.resize[1] // SMALL_INPUT)
    return dataclasses.replace(spec, height=height, width=width, resize=resize)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="ONNX file or bundle")
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=400, help="use at most so many")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    model = read_model(given.model)
    if model.preprocess is None:
        parser.error(f"{given.model} does not carry its preprocessing")
    session = Session(model, SessionSettings(threads=1))
    paths = list_images(given.images).limited(given.count).paths
    enlarged = (jpeg_of(path, round(given.megapixels * 1e6)) for path in paths)

    def scores(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(log_softmax(session.run(pixels[None]))[0]))

    report = {
        "as_they_are": measure((path.read_bytes() for path in paths), model.preprocess, scores),
        "enlarged": measure(enlarged, model.preprocess, scores),
        "reduced": measure((path.read_bytes() for path in paths), smaller(model.preprocess)),
        "megapixels": given.megapixels,
        "machine": describe_machine().to_json(),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
