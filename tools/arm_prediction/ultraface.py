"""UltraFace RFB-320 with random weights, in float and INT8: its latency under onnxruntime was published.

Layers after Linzaer's Ultra-Light-Fast-Generic-Face-Detector-1MB; INT8 by onnxruntime's static quantization
with a weight scale per channel, as its publisher says of his file. Only shapes count.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime.quantization as ort
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

HEIGHT, WIDTH = 240, 320
_TRUNK = (  # channels in and out, stride, of depthwise separable convolutions; None: with branches
    (16, 32, 1),
    (32, 32, 2),
    (32, 32, 1),
    (32, 64, 2),
    (64, 64, 1),
    (64, 64, 1),
    None,
    (64, 128, 2),
    (128, 128, 1),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
)
_SEEN_AFTER = (6, 9, 11)  # of the trunk, by the heads
_BOXES = ((64, 3), (128, 2), (256, 2), (256, 3))  # channels and boxes per place, of each head


def _normed(
    taken: int, given: int, size: int, stride: int = 1, spread: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    padding = spread * (size // 2)
    layer = nn.Conv2d(taken, given, size, stride, padding, spread, groups, bias=False)
    return [layer, nn.BatchNorm2d(given), *([nn.ReLU()] if relu else [])]


def _separable(taken: int, given: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*_normed(taken, taken, 3, stride, groups=taken), *_normed(taken, given, 1))


def _head(taken: int, given: int, stride: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(taken, taken, 3, stride, 1, groups=taken)
    return nn.Sequential(depthwise, nn.ReLU(), nn.Conv2d(taken, given, 1))


class _Branches(nn.Module):
    """Three receptive fields beside each other."""

    def __init__(self) -> None:
        super().__init__()
        start = [(64, 8, 1, 1), (8, 16, 3, 1)]
        longer = [(64, 8, 1, 1), (8, 12, 3, 1), (12, 16, 3, 1)]
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(layer for sizes in steps for layer in _normed(*sizes[:3], relu=sizes[2] > 1)),
                *_normed(16, 16, 3, spread=spread, relu=False),
            )
            for steps, spread in ((start, 2), (start, 3), (longer, 5))
        )
        self.joined = nn.Sequential(*_normed(48, 64, 1, relu=False))
        self.shortcut = nn.Sequential(*_normed(64, 64, 1, relu=False))

    def forward(self, seen: Tensor) -> Tensor:
        """(1, 64, H, W) to the same."""
        beside = torch.cat([branch(seen) for branch in self.branches], dim=1)
        return torch.relu(self.joined(beside) + self.shortcut(seen))


class _UltraFace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normed(3, 16, 3, 2))
        self.trunk = nn.ModuleList(_Branches() if step is None else _separable(*step) for step in _TRUNK)
        self.last = nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), _head(64, 256, 2), nn.ReLU())
        self.scores, self.places = (
            nn.ModuleList(
                nn.Conv2d(taken, width * boxes, 3, padding=1) if last else _head(taken, width * boxes)
                for last, (taken, boxes) in zip((False, False, False, True), _BOXES, strict=True)
            )
            for width in (2, 4)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, 240, 320) to scores (1, boxes, 2) and places (1, boxes, 4)."""
        made, seen = self.stem(image), []
        for number, step in enumerate(self.trunk):
            made = step(made)
            if number in _SEEN_AFTER:
                seen.append(made)
        seen.append(self.last(made))
        return _listed(self.scores, seen, 2).softmax(dim=2), _listed(self.places, seen, 4)


def _listed(heads: nn.ModuleList, seen: Sequence[Tensor], width: int) -> Tensor:
    rows = [
        head(each).permute(0, 2, 3, 1).reshape(1, -1, width) for head, each in zip(heads, seen, strict=True)
    ]
    return torch.cat(rows, dim=1)


class _Images(ort.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        shape = (1, 3, HEIGHT, WIDTH)
        self._left = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(4)]

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return {"image": self._left.pop()} if self._left else None


def write(folder: Path) -> tuple[Path, Path]:
    """The float and the INT8 file, in a folder."""
    torch.manual_seed(0)
    bare, real, integer = (folder / f"ultraface_{kind}.onnx" for kind in ("bare", "float", "int8"))
    model, image = _UltraFace().eval(), torch.zeros(1, 3, HEIGHT, WIDTH)
    torch.onnx.export(
        model, (image,), bare, input_names=["image"], dynamo=True, external_data=False, verbose=False
    )
    quant_pre_process(bare, real)
    ort.quantize_static(real, integer, _Images(), quant_format=ort.QuantFormat.QDQ, per_channel=True)
    return real, integer
