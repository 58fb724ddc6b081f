"""Times the device API from the file of a photo to its labels, against what users would write by hand.

Rows, each one thread, one image at a time, rounds interleaved and all on the same image within a round:

* this package with a quantized model, decoding fast, and exactly
* the float model with the same preprocessing in plain Pillow and numpy, as torchvision does it
* transformers' pipeline on torch, where `--source` names a folder of the checkpoint and transformers is there

Beside that: what a photo costs apart from reading, decoding, resizing and onnxruntime's run, counted in CPU
time of the thread; how `batch` compares with single calls; and the time from a fresh process to the first
prediction.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import tools.startup
from tools.added_time import Call, added_ms
from tools.photos import jpeg_of
from tools.plain_pillow import PlainPillow
from vit_edge import Classifier, Decoding
from vit_edge.bundle import Role
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.measure.timing import Rounds, latency, ratios_to_first, time_interleaved

PIXELS = {"12 megapixels": 12_000_000, "500 pixels wide": 187_500}


def transformers_pipeline(source: Path, threads: int) -> Call | None:
    """Transformers' own way, or None where it is not installed."""
    try:
        import torch
        from transformers import pipeline
    except ImportError:
        return None
    torch.set_num_threads(threads)
    classify = pipeline("image-classification", model=str(source), device="cpu")
    return lambda path: classify(str(path))


class InTurn:
    """Calls one contender with the photos in turn; contenders called equally often have seen the same."""

    def __init__(self, call: Call, paths: Sequence[Path]) -> None:
        self.call, self.paths, self.count = call, paths, 0

    def __call__(self) -> None:
        """The next photo."""
        # time_interleaved calls twice and times the second, so that one has been read before.
        self.call(self.paths[self.count // 2 % len(self.paths)])
        self.count += 1


def plain_pillow(given: argparse.Namespace, threads: int) -> PlainPillow:
    return PlainPillow(given.float or given.model, Role.FLOAT if given.float is None else None, threads)


def contenders(given: argparse.Namespace) -> dict[str, Call]:
    found: dict[str, Call] = {
        "this package": Classifier(given.model, threads=given.threads),
        "this package, exact": Classifier(given.model, threads=given.threads, decoding=Decoding.EXACT),
        "float, plain Pillow": plain_pillow(given, given.threads),
    }
    pipeline = None if given.source is None else transformers_pipeline(given.source, given.threads)
    return found if pipeline is None else found | {"transformers pipeline": pipeline}


def end_to_end(calls: dict[str, Call], paths: Sequence[Path], rounds: Rounds) -> list[dict[str, Any]]:
    """One entry a contender; ratios are to the first."""
    times = time_interleaved([InTurn(call, paths) for call in calls.values()], rounds)
    return [
        {
            "name": name,
            **dataclasses.asdict(latency(times[:, column])),
            "ratio_to_first": ratio.median,
            "quartiles": ratio.quartiles,
        }
        for column, (name, ratio) in enumerate(zip(calls, ratios_to_first(times), strict=True))
    ]


def batch_against_calls(
    classify: Classifier, paths: Sequence[Path], batch: int, rounds: Rounds
) -> dict[str, Any]:
    """All photos one by one against all through `batch`, ms a photo."""

    def one_by_one() -> None:
        for path in paths:
            classify(path)

    def batched() -> None:
        for _ in classify.batch(paths, batch):
            pass

    times = time_interleaved([one_by_one, batched], rounds) / len(paths)
    names = ("single", "batch")
    figures: dict[str, Any] = {f"{n}_ms": float(np.median(times[:, c])) for c, n in enumerate(names)}
    return figures | {"batch_size": batch, "ratio_to_single": ratios_to_first(times)[1].median}


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    originals = list_images(given.images).limited(given.count).paths
    calls = contenders(given)
    rounds = Rounds(given.rounds, 0)
    report: dict[str, Any] = {"threads": given.threads, "end_to_end": {}, "batch": {}}
    for name, pixels in PIXELS.items():
        paths = []
        for number, original in enumerate(originals):
            paths.append(folder / f"{pixels}_{number}.jpg")
            paths[-1].write_bytes(jpeg_of(original, pixels))
        report["end_to_end"][name] = end_to_end(calls, paths, rounds)
        default = Classifier(given.model)  # with all cores
        report["batch"][name] = batch_against_calls(default, paths[:16], 8, Rounds(5, 0))
    adding: dict[str, Classifier | PlainPillow] = {
        str(path): Classifier(path, threads=1) for path in [given.model, *given.also]
    }
    adding["float, plain Pillow"] = plain_pillow(given, threads=1)
    report["added_ms"] = {name: added_ms(each, paths) for name, each in adding.items()}
    starts = {
        name: tools.startup.measure_startup(given.model, paths[0], given.threads, 7, cold)
        for name, cold in (("cold", True), ("warm", False))
    }
    report["startup"] = {name: dataclasses.asdict(found) for name, found in starts.items()}
    return report | {"machine": describe_machine().to_json(), "pillow": PIL.__version__}


def lines(report: dict[str, Any]) -> Iterator[str]:
    for name, rows in report["end_to_end"].items():
        title = f"{name}, threads: {report['threads']}"
        yield f"{title:34s} {'median ms':>9s} {'ratio':>6s}  quartiles"
        for row in rows:
            low, high = row["quartiles"]
            ratio = f"{row['ratio_to_first']:6.2f}  {low:.2f} to {high:.2f}"
            yield f"  {row['name']:32s} {row['median_ms']:9.2f} {ratio}"
        batch = report["batch"][name]
        yield (
            f"  all cores, a photo: {batch['single_ms']:.2f} ms alone, {batch['batch_ms']:.2f} ms in batches "
            f"of {batch['batch_size']}, ratio {batch['ratio_to_single']:.2f}"
        )
    for path, added in report["added_ms"].items():
        spread = f"{added['low']:.3f} to {added['high']:.3f}"
        yield f"besides Pillow and onnxruntime: {added['median']:.3f} ms CPU time a photo ({spread}), {path}"
        if "arithmetic" in added:
            rest = added["median"] - added["arithmetic"]
            yield f"  of it packing and normalising pixels {added['arithmetic']:.3f}, Python {rest:.3f}"
    for name, found in report["startup"].items():
        yield (
            f"{name} start: import {found['import_s']:.3f} s, load {found['load_s']:.3f} s, "
            f"first prediction {found['first_s']:.3f} s"
        )
    machine = report["machine"]
    versions = f"onnxruntime {machine['onnxruntime']}, Pillow {report['pillow']}"
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {versions}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="bundle, or quantized ONNX file")
    parser.add_argument("--float", type=Path, help="float ONNX file (default: the bundle's)")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="time what is added to these, too")
    parser.add_argument("--source", type=Path, help="Hugging Face folder, for transformers' pipeline")
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--count", type=int, default=40, help="use at most so many")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(given, Path(folder))
    print("\n".join(lines(report)))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
