"""Small vision transformers with dense heads, random weights, and their ONNX exports."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn

from tests.host.vit_forms import (
    DIM,
    IMAGE,
    PATCH,
    Block,
    Export,
    PlainVit,
    SplitAttention,
    randomised,
    to_onnx,
)

# How their images are prepared, in options.
STATED = [
    "--mean",
    *["0.5"] * 3,
    "--std",
    *["0.5"] * 3,
    "--resize-mode",
    "exact",
    "--interpolation",
    "bilinear",
]
GRID = IMAGE // PATCH
CHANNELS = 3


class Decoded(PlainVit):
    """Saliency: patches behind the last norm, ConvTranspose, BatchNorm, ReLU, a 1x1 Conv, Resize, Sigmoid."""

    def __init__(self) -> None:
        super().__init__(*(Block(SplitAttention(), nn.GELU()) for _ in range(2)))
        self.up, self.norm_of_up = nn.ConvTranspose2d(DIM, 8, 4, 2, 1), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 1, 1)
        with torch.no_grad():
            self.norm_of_up.running_mean = torch.linspace(-0.5, 0.5, 8)
            self.norm_of_up.running_var = torch.linspace(0.5, 2, 8)

    def tokens(self, pixel_values: Tensor) -> Tensor:
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        assert self.token is not None
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        normed: Tensor = self.norm(self.blocks(x))
        return normed

    def grid(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, GRID, GRID)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.last(self.norm_of_up(self.up(self.grid(self.tokens(pixel_values)))).relu())
        size = pixel_values.shape[2:]
        map_: Tensor = nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False).sigmoid()
        return map_


class Segmented(Decoded):
    """A linear layer per patch, enlarged; beside it the class of each pixel, as integers."""

    def __init__(self) -> None:
        super().__init__()
        self.per_patch = nn.Linear(DIM, CHANNELS)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.grid(self.per_patch(self.tokens(pixel_values)))
        scores = nn.functional.interpolate(x, scale_factor=PATCH, mode="bilinear", align_corners=False)
        return scores, scores.argmax(dim=1)


class Tapped(Decoded):
    """Both blocks are read, side by side, and a 3x3 Conv makes two channels; beside it the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * DIM, 2, 3, padding=1)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        assert self.token is not None
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        taps = []
        for block in self.blocks:
            x = block(x)
            taps.append(self.grid(self.norm(x)))
        return self.mix(torch.cat(taps, dim=1)), self.norm(x)[:, 0]


class Dense(NamedTuple):
    """A model with a dense head, and what its outputs are called."""

    build: Callable[[], nn.Module]
    outputs: tuple[str, ...]
    head: tuple[str, ...]


DENSE = {
    "decoder": Dense(Decoded, ("importance",), ("2 Conv", "1 DepthToSpace", "1 Resize")),
    "per-patch": Dense(Segmented, ("scores", "classes"), ("1 Linear", "1 Resize")),
    "taps": Dense(Tapped, ("pair", "summary"), ("1 Conv",)),
}
HOW = Export(False, 14, None)


@functools.cache
def dense_onnx(kind: str, how: Export = HOW) -> onnx.ModelProto:
    """Its export; made once for all tests, so leave it unchanged."""
    dense = DENSE[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(dense.build())
    return to_onnx(model, how, outputs=dense.outputs)
