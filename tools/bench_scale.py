"""How latency, memory and a build grow with the size of model, image and batch, in float and in INT8.

Usage: python -m tools.bench_scale [--shapes tiny small] [--sizes 224 384] [--batches 1 8] [-o FILE]

Models have the widths and depths of ViT-Tiny, Small, Base and Large, patches of 16 pixels, 1000 classes and
random weights: what a layer takes does not depend on them, though which forms are chosen does. Each is
exported, and then quantized with the preset `balanced` in a process of its own, whose time, processor time
and peak memory are the build's. Both files are timed in turn for every batch and number of threads; their
memory is that of a process of its own. Beside every figure stands what it should grow with: multiply-adds for
time, weights for memory. An output that exists keeps its rows of other shapes and sizes, if it is of this
machine.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.memory import MemoryRequest, own_peak_rss_mb, peak_rss_mb
from vit_edge.runtime.measure.timing import Rounds, latency, time_interleaved
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings

PATCH, CLASSES = 16, 1000


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a Vision Transformer but for its image."""

    dim: int
    depth: int
    heads: int

    def tokens(self, size: int) -> int:
        """Patches of a square image, and the class token."""
        return (size // PATCH) ** 2 + 1

    def weights(self, size: int) -> int:
        """Numbers in the model."""
        block = 12 * self.dim**2 + 13 * self.dim
        return self.depth * block + self.dim * (3 * PATCH**2 + self.tokens(size) + CLASSES + 4) + CLASSES

    def multiply_adds(self, size: int) -> int:
        """Of one image: linear layers grow with the tokens, attention with their square."""
        rows = self.tokens(size)
        block = 12 * rows * self.dim**2 + 2 * rows**2 * self.dim
        return self.depth * block + rows * 3 * PATCH**2 * self.dim + self.dim * CLASSES


SHAPES = {
    "tiny": Shape(192, 12, 3),
    "small": Shape(384, 12, 6),
    "base": Shape(768, 12, 12),
    "large": Shape(1024, 24, 16),
}


@dataclasses.dataclass(frozen=True)
class Built:
    """What making one INT8 file took."""

    shape: str
    image_size: int
    weights_millions: float
    calibration_images: int
    seconds: float
    processor_seconds: float
    peak_mb: float | None
    float_mb: float
    int8_mb: float


@dataclasses.dataclass(frozen=True)
class Timed:
    """One file with one batch and number of threads; times are of the whole batch."""

    shape: str
    image_size: int
    precision: str
    batch: int
    threads: int
    giga_multiply_adds: float
    min_ms: float
    median_ms: float
    memory_mb: float | None

    @property
    def per_giga(self) -> float:
        """Least milliseconds for 10^9 multiply-adds: the same everywhere if arithmetic alone took time."""
        return self.min_ms / self.giga_multiply_adds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "small"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224], help=f"pixels, multiples of {PATCH}")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    parser.add_argument("--rounds", type=int, default=10, help="at least so many")
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="JSON")
    parser.add_argument("--quantize", nargs=3, type=Path, help=argparse.SUPPRESS)  # source, calibration, out
    given = parser.parse_args(arguments)
    if given.quantize:
        print(json.dumps(quantized_here(*given.quantize)))
        return
    wrong = [size for size in given.sizes if size < PATCH or size % PATCH]
    if wrong:
        parser.error(f"--sizes {wrong[0]} is no multiple of {PATCH}")
    earlier = kept(given.out) if given.out and given.out.exists() else None
    if earlier and earlier["machine"] != describe_machine().to_json():
        parser.error(f"{given.out} holds figures of another machine; choose another file with -o")
    builds: list[Built] = []
    times: list[Timed] = []
    for name, size in itertools.product(given.shapes, given.sizes):
        with tempfile.TemporaryDirectory() as folder:
            builds.append(build(name, size, given.images, Path(folder)))
            print(line_of_build(builds[-1]), flush=True)
            for batch, threads in itertools.product(given.batches, given.threads):
                found = timed(name, size, (batch, threads), Path(folder), Rounds(given.rounds, 0.0))
                times += found
                print("\n".join(map(line_of_time, found)), flush=True)
    if given.out:
        given.out.write_text(json.dumps(joined(earlier, results(builds, times)), indent=1) + "\n")


def results(builds: Sequence[Built], times: Sequence[Timed]) -> dict[str, Any]:
    """What is written of one run, with the machine."""
    return {
        "machine": describe_machine().to_json(),
        "builds": [dataclasses.asdict(each) for each in builds],
        "latency": [dataclasses.asdict(each) | {"ms_per_giga": round(each.per_giga, 3)} for each in times],
    }


def joined(earlier: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """New results with the rows that earlier ones have of other shapes and sizes, small models first."""
    new = {(row["shape"], row["image_size"]) for row in found["builds"]}
    order = list(SHAPES)
    rows = {
        part: sorted(
            [row for row in (earlier or {}).get(part, []) if (row["shape"], row["image_size"]) not in new]
            + found[part],
            key=lambda row: (order.index(row["shape"]), row["image_size"]),
        )
        for part in ("builds", "latency")
    }
    return {**found, **rows}


def kept(path: Path) -> dict[str, Any]:
    """Results that were written before."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def build(name: str, size: int, images: int, folder: Path) -> Built:
    """A random model of a shape, as `float.onnx`, and its INT8 form, as `int8.onnx`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:  # whose memory ends with it
        own.submit(exported, SHAPES[name], size, folder).result()
    rng = np.random.default_rng(0)
    (folder / "calibration").mkdir()
    for i in range(images):  # smooth colours, with noise on them
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float64)
        pixels = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "calibration" / f"{i:04d}.png")
    paths = [str(folder / part) for part in ("float.onnx", "calibration", "int8.onnx")]
    command = [sys.executable, "-m", "tools.bench_scale", "--quantize", *paths]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, processor, peak = json.loads(told.splitlines()[-1])
    sizes = [round((folder / part).stat().st_size / 1e6, 2) for part in ("float.onnx", "int8.onnx")]
    weights = round(SHAPES[name].weights(size) / 1e6, 2)
    return Built(name, size, weights, images, seconds, processor, peak, *sizes)


def exported(shape: Shape, size: int, folder: Path) -> None:
    """The float file of a random model, by the way that any folder of transformers takes."""
    from transformers import ViTConfig, ViTForImageClassification

    from vit_edge.host.convert.one_file import OptimizeSettings, export_model, optimize_model
    from vit_edge.host.sources import SourceOptions, resolve

    config = ViTConfig(
        hidden_size=shape.dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.dim,
        image_size=size,
        patch_size=PATCH,
        num_labels=CLASSES,
    )
    source = folder / "source"
    ViTForImageClassification(config).save_pretrained(source)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": size, "width": size},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
    }
    (source / "preprocessor_config.json").write_text(json.dumps(processor))
    export_model(resolve(str(source), SourceOptions()), folder / "exported.onnx")
    optimize_model(folder / "exported.onnx", folder / "float.onnx", OptimizeSettings())


def quantized_here(source: Path, calibration: Path, out: Path) -> tuple[float, float, float | None]:
    """Quantize in this process: seconds, seconds of its processors, and its peak memory in MB."""
    from vit_edge.host.convert.one_file import QuantizeFileSettings, quantize_model
    from vit_edge.host.sources import SourceOptions, resolve

    start, used = time.perf_counter(), time.process_time()
    quantize_model(resolve(str(source), SourceOptions()), out, QuantizeFileSettings(calibration))
    spent = time.perf_counter() - start, time.process_time() - used
    return round(spent[0], 2), round(spent[1], 2), own_peak_rss_mb()


def timed(name: str, size: int, load: tuple[int, int], folder: Path, rounds: Rounds) -> list[Timed]:
    """Both files with one (batch, number of threads), in turn."""
    batch, threads = load
    files = {precision: read_model(folder / f"{precision}.onnx") for precision in ("float", "int8")}
    settings = SessionSettings("cpu", threads=threads)
    pixels = random_pixels(batch, (size, size))
    sessions = [Session(file, settings) for file in files.values()]
    found = time_interleaved([functools.partial(own.outputs, pixels) for own in sessions], rounds)
    giga = round(batch * SHAPES[name].multiply_adds(size) / 1e9, 4)
    made = []
    for i, (precision, file) in enumerate(files.items()):
        times, memory = latency(found[:, i]), memory_of(file, settings, batch)
        least, median = round(times.min_ms, 3), round(times.median_ms, 3)
        made.append(Timed(name, size, precision, batch, threads, giga, least, median, memory))
    return made


def memory_of(file: ModelFile, settings: SessionSettings, batch: int) -> float | None:
    """Peak MB of a process that runs one file."""
    if file.preprocess is None:
        raise ValueError(f"{file.path} does not say how images are preprocessed")
    return peak_rss_mb(MemoryRequest(str(file.path), file.preprocess, settings, batch))


def line_of_build(found: Built) -> str:
    peak = "unknown" if found.peak_mb is None else f"{found.peak_mb:.0f} MB"
    return (
        f"{found.shape} {found.image_size}: {found.weights_millions} million weights, quantized in "
        f"{found.seconds:.0f} s ({found.processor_seconds:.0f} of processors), peak {peak}, "
        f"{found.float_mb} MB become {found.int8_mb}"
    )


def line_of_time(found: Timed) -> str:
    memory = "" if found.memory_mb is None else f", {found.memory_mb:.0f} MB"
    return (
        f"  {found.precision:5s} batch {found.batch}, threads {found.threads}: {found.min_ms:.2f} ms, "
        f"{found.per_giga:.2f} for each 10^9 multiply-adds{memory}"
    )


if __name__ == "__main__":
    main()
