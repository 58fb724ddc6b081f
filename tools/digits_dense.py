"""The worked examples of docs/dense.md: a detector and a segmenter on the digits ViT's patch grid, as ONNX.

Usage: python -m tools.digits_dense OUT [--calibration N] [--test N]

Writes OUT/detector.onnx and OUT/segmenter.onnx from the weights of models/digits_dense, and beside them the
canvases and truth of tools/canvases.py. Both files have the form that torch's exporter gives them: nothing in
them is prepared for vit-edge.
"""

import argparse
import dataclasses
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tools import canvases
from tools.dense_heads import BoxHead, MaskHead
from tools.digits import LABELS
from tools.train_digits import CONFIG as DIGITS
from vit_edge.host.sources.checkpoints import build, read_state_dict
from vit_edge.host.vit import VisionTransformer

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "models" / "digits_dense" / "model.safetensors"
CONFIG = dataclasses.replace(DIGITS, image_size=(canvases.SIDE, canvases.SIDE))
WIDTH = 64  # channels within the head for boxes
MASK_WIDTH = 24
OPSET = 17

# How their images are prepared, as options of vit-edge.
STATED = ["--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5", "--resize-mode", "exact"]
STATED += ["--interpolation", "bilinear"]


class DenseDigits(nn.Module):
    """The encoder of the digits ViT on a larger canvas, and a head of each kind on its patches."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = VisionTransformer(CONFIG)
        self.encoder.head = nn.Identity()  # type: ignore[assignment]  # classes of the whole are not asked for
        self.boxes = BoxHead(CONFIG.dim, CONFIG.grid, len(LABELS), WIDTH)
        self.masks = MaskHead(CONFIG.dim, len(canvases.MASK_LABELS), MASK_WIDTH)

    def grid(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, SIDE, SIDE) to patches behind the last norm, (N, dim, rows, columns)."""
        patches = self.encoder.forward_features(pixel_values)[:, CONFIG.prefix_tokens :]
        return patches.transpose(1, 2).reshape(-1, CONFIG.dim, *CONFIG.grid)


class Boxes(nn.Module):
    """The detector alone."""

    def __init__(self, model: DenseDigits) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes."""
        made: tuple[Tensor, Tensor] = self.model.boxes(self.model.grid(pixel_values))
        return made


class Masks(nn.Module):
    """The segmenter alone."""

    def __init__(self, model: DenseDigits) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Scores of the ground and of each digit."""
        made: Tensor = self.model.masks(self.model.grid(pixel_values))
        return made


def started() -> DenseDigits:
    """The encoder with the weights of models/digits_vit, its positions stretched; heads untrained."""
    model = DenseDigits()
    folder = ROOT / "models" / "digits_vit"
    given = build(read_state_dict(folder / "model.safetensors"), DIGITS, str(folder)).state_dict()
    kept = {name: value for name, value in given.items() if not name.startswith("head.")}
    prefix, patches = kept["pos_embed"].split([1, DIGITS.tokens - 1], dim=1)
    square = patches.transpose(1, 2).reshape(1, DIGITS.dim, *DIGITS.grid)
    larger = nn.functional.interpolate(square, CONFIG.grid, mode="bilinear", align_corners=False)
    kept["pos_embed"] = torch.cat([prefix, larger.flatten(2).transpose(1, 2)], dim=1)
    model.encoder.load_state_dict(kept)
    return model


def save(model: DenseDigits, path: Path) -> None:
    """Its weights in half precision, which halves the file and moves no figure of the card."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(halves, path, metadata={"format": "pt"})


def load(path: Path = WEIGHTS) -> DenseDigits:
    """The trained model, in float32."""
    model = DenseDigits()
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model.eval()


@dataclasses.dataclass(frozen=True)
class Given:
    """The input of a model, N being dynamic."""

    name: str
    shape: tuple[int, ...]  # without N


IMAGE = Given("pixel_values", (3, canvases.SIDE, canvases.SIDE))


def write_onnx(model: DenseDigits, out: Path) -> None:
    """OUT/detector.onnx and OUT/segmenter.onnx, of any number of images."""
    out.mkdir(parents=True, exist_ok=True)
    export(Boxes(model), out / "detector.onnx", IMAGE, ("logits", "pred_boxes"))
    export(Masks(model), out / "segmenter.onnx", IMAGE, ("scores",))


def export(model: nn.Module, path: Path, given: Given, outputs: tuple[str, ...], opset: int = OPSET) -> None:
    """A model of one input as torch's exporter writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, *given.shape),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[given.name],
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (given.name, *outputs)},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the detector, the segmenter and canvases for them.")
    parser.add_argument("out", type=Path, help="folder that receives all")
    parser.add_argument("--calibration", type=int, default=128, metavar="N")
    parser.add_argument("--test", type=int, default=500, metavar="N")
    given = parser.parse_args()
    canvases.write(given.out, given.calibration, given.test)
    write_onnx(load(), given.out)
    print(f"{given.out}: detector.onnx, segmenter.onnx, canvases and truth")


if __name__ == "__main__":
    main()
