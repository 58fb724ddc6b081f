"""The digits ViT beside a CNN of the same size: float and INT8, accuracy, robustness, size, latency, memory.

Usage: python -m tools.vit_or_cnn [--epochs N] [--seconds S] [-o FILE.json] [--page]

The CNN is trained here as the ViT was (tools/train_digits.py): same images, augmentation, schedule and seed.
Both are written as ONNX by the commands that a user types, calibrated on the same 130 images and judged on
the same 420, which neither training nor calibration saw. `--page` writes docs/vit-or-cnn.md from the file.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.digits import LABELS, SIDE, Part, make_folders, split
from tools.train_digits import Recipe, reference, train
from vit_edge.cli import main as vit_edge
from vit_edge.runtime.measure.benchmark import BenchReport, BenchSettings, bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.verify.metrics import expected_calibration_error
from vit_edge.verify.paired import mcnemar_exact
from vit_edge.verify.proportion import clopper_pearson

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "models" / "results" / "vit_or_cnn.json"
PAGE = ROOT / "docs" / "vit-or-cnn.md"
VIT, CNN = "ViT", "CNN"
ONE = SessionSettings("cpu", threads=1)
STATED = ["--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5", "--resize-mode", "exact"]
STATED += ["--interpolation", "bicubic"]

Pixels = npt.NDArray[np.uint8]


class Residual(nn.Module):
    """Two 3x3 convolutions and a way around them (He et al., CVPR 2016)."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        self.around = nn.Identity() if stride == 1 else nn.Conv2d(width, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, out, H / stride, W / stride)."""
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inner)) + self.around(x))


class ConvNet(nn.Sequential):
    """A residual network of 0.45 million weights, close to the ViT's 0.47 million."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 26, 3, 2, 1, bias=False),
            nn.BatchNorm2d(26),
            nn.ReLU(),
            Residual(26, 26, 1),
            Residual(26, 52, 2),
            Residual(52, 52, 1),
            Residual(52, 104, 2),
            Residual(104, 104, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(104, len(LABELS)),
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """One file."""

    name: str
    weights: int
    """Of the float model."""
    top1: float
    """In percent."""
    top1_interval: tuple[float, float]
    """95 %, after Clopper and Pearson."""
    ece: float
    """Expected calibration error in percent."""
    under: dict[str, float]
    """Top-1 in percent on changed images."""
    size_mb: float
    median_ms: float
    peak_rss_mb: float | None
    ratio: float
    """Of its latency to the float ViT's."""


def shifted(images: Pixels, by: int) -> Pixels:
    """Moved right and down by so many pixels, the border repeated."""
    padded = np.pad(images, ((0, 0), (by, 0), (by, 0), (0, 0)), mode="edge")
    return padded[:, :SIDE, :SIDE]


def occluded(images: Pixels, side: int) -> Pixels:
    """A grey square over each image at a place of its own; the same places for every model."""
    places = np.random.default_rng(0).integers(0, SIDE - side + 1, (len(images), 2))
    hidden = images.copy()
    for image, (row, column) in zip(hidden, places, strict=True):
        image[row : row + side, column : column + side] = 128
    return hidden


def noisy(images: Pixels, deviation: float) -> Pixels:
    """Grey noise of so many levels."""
    noise = np.random.default_rng(0).normal(0, deviation, (*images.shape[:3], 1))
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "shift by 2 pixels": lambda images: shifted(images, 2),
    "shift by 4 pixels": lambda images: shifted(images, 4),
    "8x8 hidden": lambda images: occluded(images, 8),
    "12x12 hidden": lambda images: occluded(images, 12),
    "noise of 40 levels": lambda images: noisy(images, 40.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="vit_or_cnn", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing, at least")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write the page from the file")
    given = parser.parse_args(arguments)
    if not given.page:
        with tempfile.TemporaryDirectory() as folder:
            found = compared(Path(folder), given.epochs, given.seconds)
        given.output.write_text(json.dumps(found, indent=1) + "\n")
    if given.output == RESULTS:
        PAGE.write_text(page(json.loads(RESULTS.read_text())))
    return 0


def compared(folder: Path, epochs: int, seconds: float) -> dict[str, Any]:
    """Everything that is measured, as plain JSON."""
    files = write_models(folder, epochs)
    test = split()["test"]
    timed = bench(
        [read_model(path) for path in files.values()], BenchSettings(ONE, rounds=Rounds(seconds=seconds))
    )
    answers = {name: answered(path, test.pixels) for name, path in files.items()}
    rows = [row(place, name, files[name], answers[name], test, timed) for place, name in enumerate(files)]
    return {
        "epochs": epochs,
        "images": len(test.labels),
        "machine": timed.machine.to_json(),
        "rows": [dataclasses.asdict(each) for each in rows],
        "pairs": [pair(VIT, CNN, answers, test), pair(f"{VIT} INT8", f"{CNN} INT8", answers, test)],
    }


def write_models(folder: Path, epochs: int) -> dict[str, Path]:
    """Name -> ONNX file, the float ViT first."""
    make_folders(folder)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    torch.set_num_threads(1)  # sums in one order, whatever the number of cores
    trained = train(split()["train"], Recipe(epochs=epochs), ConvNet).eval()
    export(trained, folder / "cnn.onnx")
    source = {VIT: str(ROOT / "models" / "digits_vit"), CNN: str(folder / "cnn.onnx")}
    stated = ["--labels", str(folder / "labels.txt"), "--allow-uncanonical", *STATED]
    files: dict[str, Path] = {}
    for name, path in source.items():
        more = stated if name == CNN else []
        float_file, int8_file = folder / f"{name}.onnx", folder / f"{name}_int8.onnx"
        float_command = "export" if name == VIT else "optimize"
        done(vit_edge([float_command, path, "-o", str(float_file), *more, "--quiet"]))
        calib = ["--calib", str(folder / "calibration"), "--quiet"]
        done(vit_edge(["quantize", path, "-o", str(int8_file), *more, *calib]))
        files |= {name: float_file, f"{name} INT8": int8_file}
    return files


def done(status: int) -> None:
    if status:
        raise SystemExit(status)


def export(model: nn.Module, path: Path) -> None:
    """As PyTorch's users do it."""
    example = torch.zeros(2, 3, SIDE, SIDE)
    batch = {"x": {0: torch.export.Dim("batch")}}
    torch.onnx.export(
        nn.Sequential(model),
        (example,),
        path,
        dynamo=True,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: batch["x"][0]},),
        external_data=False,
        verbose=False,
    )


def answered(path: Path, images: Pixels) -> npt.NDArray[np.float32]:
    """Logits (N, 10)."""
    session = Session(read_model(path), ONE)
    return np.concatenate([session.run(images[start : start + 60]) for start in range(0, len(images), 60)])


def row(
    place: int, name: str, path: Path, logits: npt.NDArray[np.float32], test: Part, timed: BenchReport
) -> Row:
    """One file's figures."""
    right = int((logits.argmax(axis=1) == test.labels).sum())
    low, high = clopper_pearson(right, len(test.labels), 0.95)
    changed = {
        what: share(answered(path, change(test.pixels)), test.labels) for what, change in CHANGES.items()
    }
    entry = timed.models[place]
    model = ConvNet() if name.startswith(CNN) else reference()
    return Row(
        name,
        sum(each.numel() for each in model.parameters()),
        100 * right / len(test.labels),
        (100 * low, 100 * high),
        expected_calibration_error(logits, test.labels),
        changed,
        entry.size_mb,
        entry.latency.median_ms,
        entry.peak_rss_mb,
        timed.ratios[place].median,
    )


def share(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Top-1 in percent."""
    return 100 * float(np.mean(logits.argmax(axis=1) == labels))


def pair(
    first: str, second: str, answers: dict[str, npt.NDArray[np.float32]], test: Part
) -> dict[str, str | int | float]:
    """What one got right that the other got wrong."""
    one, other = (answers[name].argmax(axis=1) == test.labels for name in (first, second))
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return {
        "first": first,
        "second": second,
        "only_first_right": only_first,
        "only_second_right": only_second,
        "both_wrong": int((~one & ~other).sum()),
        "mcnemar_p": mcnemar_exact(only_first, only_second),
    }


HEAD = """# A ViT or a CNN?

Written by `python -m tools.vit_or_cnn --page` from [its results](../models/results/vit_or_cnn.json);
`python -m tools.vit_or_cnn` trains the CNN and measures everything anew in minutes.

The embedded digits ViT and a residual network of about as many weights, trained on the same {train} images
with the same augmentation and schedule, both quantized by `vit-edge quantize` (the CNN with
`--allow-uncanonical`) on the same 130 images, judged on {images} others. {machine}, one thread, all four
files timed in turn.
"""

WHEN = """
## When to take which
* One small data set decides nothing about others. What carries over is how to ask: same images, same budget,
  intervals, and both in the form that will ship.
* **Few images, few classes, no pretrained weights, small inputs**: a CNN. Locality is built in; a ViT has to
  learn it.
* **Pretrained weights at hand** (DINOv2, CLIP, SigLIP, AugReg), search by embedding, names without training,
  dense features: a ViT.
* **Latency on small boards**: measure, as integer convolutions and integer products differ from CPU to CPU.
* **INT8**: a CNN's convolutions behind batch normalisation are the easy case; a ViT needs a scale per token
  or folds where a few tokens are outliers, which is what this project is for. Ask the gate about either.
"""

_ACCURACY = ["model", "weights", "top-1 (95 % interval)", "ECE"]
_COST = ["model", "size", "median", "against the float ViT", "peak memory"]


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    machine = found["machine"]
    where = f"{machine['cpu']} ({', '.join(machine['flags'])}), onnxruntime {machine['onnxruntime']}"
    head = HEAD.format(train=len(split()["train"].labels), images=found["images"], machine=where)
    changes = list(found["rows"][0]["under"])
    lines = [
        head,
        *table(["model", "weights", "top-1 (95 % interval)", "ECE", *changes], accuracy_cells(found)),
    ]
    lines += [
        "",
        *table(["model", "size", "median", "against the float ViT", "peak memory"], cost_cells(found)),
        "",
    ]
    for each in found["pairs"]:
        lines.append(
            f"* {each['first']} alone is right on {each['only_first_right']}, {each['second']} alone on "
            f"{each['only_second_right']}, neither on {each['both_wrong']} (McNemar's exact test: p = "
            f"{each['mcnemar_p']:.2g} for no difference)."
        )
    return "\n".join(lines) + "\n" + WHEN


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def accuracy_cells(found: dict[str, Any]) -> list[list[str]]:
    cells = []
    for each in found["rows"]:
        low, high = each["top1_interval"]
        top1 = f"{each['top1']:.2f} % ({low:.1f} to {high:.1f})"
        under = [f"{value:.1f} %" for value in each["under"].values()]
        cells.append([each["name"], f"{each['weights']:,}", top1, f"{each['ece']:.1f} %", *under])
    return cells


def cost_cells(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            each["name"],
            f"{each['size_mb']:.2f} MB",
            f"{each['median_ms']:.2f} ms",
            f"{each['ratio']:.2f}",
            "not known" if each["peak_rss_mb"] is None else f"{each['peak_rss_mb']:.0f} MB",
        ]
        for each in found["rows"]
    ]


if __name__ == "__main__":
    sys.exit(main())
