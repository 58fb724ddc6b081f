"""Swin and Swin V2 classifiers at one image size; parameter names are timm's, but for what is folded.

Sources: Liu et al., "Swin Transformer" (ICCV 2021); Liu et al., "Swin Transformer V2" (CVPR 2022). Relative
positions and the mask of shifted windows are one constant for each layer, `attn.bias`, and the cosine
attention's factor of each head is `attn.factor` (`windows.py` makes both of a checkpoint's weights).
"""

import dataclasses

import torch
from torch import Tensor, nn

from vit_edge.fields import settle_members, shown

_MOST_STAGES, _MOST_DEPTH, _MOST_WIDTH, _MOST_HEADS, _MOST_WINDOW = 8, 256, 2**14, 256, 64
_EPS = 1e-5  # torch's, which Swin leaves


@dataclasses.dataclass(frozen=True)
class SwinConfig:
    """The hyper-parameters of a Swin.

    Raises:
        ValueError: sizes that no Swin can have.
    """

    image_size: tuple[int, int]  # pixels (height, width)
    patch: int
    dim: int  # of the first stage; each further one has twice as many
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_dims: tuple[int, ...]
    sides: tuple[int, ...]  # of a stage's windows
    outputs: int
    second: bool  # Swin V2: cosine attention, normalization behind each half of a layer
    qkv_bias: bool = True
    patch_norm: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built, naming the field."""
        settle_members(self)
        bounds = {
            "stages": (len(self.depths), _MOST_STAGES),
            "depths": (max(self.depths, default=0), _MOST_DEPTH),
            "dim": (self.dim, _MOST_WIDTH),
            "heads": (max(self.heads, default=0), _MOST_HEADS),
            "window": (max(self.sides, default=0), _MOST_WINDOW),
            "outputs": (self.outputs, 2**20),
            "patch": (self.patch, 64),
        }
        for name, (value, most) in bounds.items():
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {shown(value)}")
        if len({len(each) for each in (self.depths, self.heads, self.mlp_dims, self.sides)}) > 1:
            raise ValueError("depths, heads, mlp_dims and sides must have one number for each stage")
        for stage, heads in enumerate(self.heads):
            if self.width(stage) % heads:
                raise ValueError(f"stage {stage} is {self.width(stage)} wide, no multiple of {heads} heads")
            grid, side = self.grid(stage), self.sides[stage]
            if side < 1 or any(each % side or not each for each in grid):
                raise ValueError(
                    f"{self.image_size[0]}x{self.image_size[1]} pixels give stage {stage} a grid of "
                    f"{grid[0]}x{grid[1]}, which windows of {side} do not divide"
                )

    def width(self, stage: int) -> int:
        """Columns of a stage's tokens."""
        return self.dim << stage

    def grid(self, stage: int) -> tuple[int, int]:
        """Tokens (rows, columns) of a stage; (0, 0) where the image does not give a whole number."""
        side = self.patch * 2**stage
        whole = not any(each % side for each in self.image_size)
        return (self.image_size[0] // side, self.image_size[1] // side) if whole else (0, 0)

    def shift(self, stage: int, block: int) -> tuple[int, int]:
        """How far a layer's windows are moved, (rows, columns)."""
        rows, columns = (
            self.sides[stage] // 2 if side > self.sides[stage] else 0 for side in self.grid(stage)
        )
        return (rows, columns) if block % 2 else (0, 0)

    def windows(self, stage: int) -> int:
        """How many there are in a stage."""
        rows, columns = self.grid(stage)
        return (rows // self.sides[stage]) * (columns // self.sides[stage])


class Swin(nn.Module):
    """Normalised pixel_values float32 (N, 3, height, width) to logits float32 (N, outputs)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        norm = nn.LayerNorm(config.dim, eps=_EPS) if config.patch_norm else nn.Identity()
        convolution = nn.Conv2d(3, config.dim, config.patch, stride=config.patch)
        self.patch_embed = nn.ModuleDict({"proj": convolution, "norm": norm})
        self.layers = nn.Sequential(*(_Stage(config, stage) for stage in range(len(config.depths))))
        width = config.width(len(config.depths) - 1)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.head = nn.ModuleDict({"fc": nn.Linear(width, config.outputs)})

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (N, outputs)."""
        x = self.patch_embed["proj"](pixel_values).flatten(2).transpose(1, 2)
        x = self.norm(self.layers(self.patch_embed["norm"](x)))
        logits: Tensor = self.head["fc"](x.mean(dim=1))
        return logits


class _Stage(nn.Module):
    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        self.downsample = _Merging(config, stage) if stage else nn.Identity()
        self.blocks = nn.Sequential(*(_Block(config, stage, i) for i in range(config.depths[stage])))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Merging(nn.Module):
    """Four neighbours become one token of twice the width: (N, 4 tokens, dim) to (N, tokens, 2 dim)."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        before, after = config.width(stage - 1), config.width(stage)
        self.grid, self.dim, self.second = config.grid(stage), before, config.second
        self.norm = nn.LayerNorm(after if config.second else 4 * before, eps=_EPS)
        self.reduction = nn.Linear(4 * before, after, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.grid
        x = x.reshape(-1, rows, 2, columns, 2, self.dim).permute(0, 1, 3, 4, 2, 5)
        x = x.reshape(-1, rows * columns, 4 * self.dim)  # of each four, column by column
        y: Tensor = self.norm(self.reduction(x)) if self.second else self.reduction(self.norm(x))
        return y


class _Block(nn.Module):
    def __init__(self, config: SwinConfig, stage: int, block: int) -> None:
        super().__init__()
        width = config.width(stage)
        self.second = config.second
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=_EPS), nn.LayerNorm(width, eps=_EPS)
        self.attn = _Attention(config, stage, block)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, config.mlp_dims[stage]), "fc2": nn.Linear(config.mlp_dims[stage], width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) to the same shape."""
        if self.second:
            x = x + self.norm1(self.attn(x))
            last = self.norm2(self._mlp(x))
        else:
            x = x + self.attn(self.norm1(x))
            last = self._mlp(self.norm2(x))
        y: Tensor = x + last
        return y

    def _mlp(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](x)))
        return y


class _Attention(nn.Module):
    """Attention within windows, which may be moved; (N, tokens, dim) to the same shape."""

    def __init__(self, config: SwinConfig, stage: int, block: int) -> None:
        super().__init__()
        self.grid, self.window, self.shift = (
            config.grid(stage),
            config.sides[stage],
            config.shift(stage, block),
        )
        self.heads, self.dim, self.second = config.heads[stage], config.width(stage), config.second
        self.windows, self.tokens = config.windows(stage), config.sides[stage] ** 2
        self.qkv = nn.Linear(self.dim, 3 * self.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(self.dim, self.dim)
        count = self.windows if any(self.shift) else 1
        self.bias = nn.Parameter(torch.zeros(count, self.heads, self.tokens, self.tokens))
        self.factor = nn.Parameter(torch.ones(self.heads, 1, 1)) if config.second else None

    def forward(self, x: Tensor) -> Tensor:
        width = self.dim // self.heads
        shape = (-1, self.tokens, self.heads, width)
        query, key, value = (
            part.reshape(shape).transpose(1, 2) for part in self.qkv(self._parted(x)).chunk(3, dim=-1)
        )
        if self.factor is not None:
            query, key = nn.functional.normalize(query, dim=-1), nn.functional.normalize(key, dim=-1)
            scores = query @ key.transpose(-2, -1) * self.factor
        else:
            scores = (query * float(width**-0.5)) @ key.transpose(-2, -1)
        weights = torch.softmax(self._placed(scores), dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(-1, self.tokens, self.dim)
        y: Tensor = self._joined(self.proj(mixed))
        return y

    def _placed(self, scores: Tensor) -> Tensor:
        """Scores (N windows, heads, tokens, tokens) with the constant of relative positions and the mask."""
        if self.bias.shape[0] == 1:
            return scores + self.bias
        apart = scores.reshape(-1, self.windows, self.heads, self.tokens, self.tokens) + self.bias
        return apart.reshape(scores.shape)

    def _parted(self, x: Tensor) -> Tensor:
        """(N, tokens of the grid, dim) to (N windows, tokens of a window, dim)."""
        (rows, columns), side = self.grid, self.window
        x = x.reshape(-1, rows, columns, self.dim)
        if any(self.shift):
            x = torch.roll(x, (-self.shift[0], -self.shift[1]), dims=(1, 2))
        x = x.reshape(-1, rows // side, side, columns // side, side, self.dim).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, self.tokens, self.dim)

    def _joined(self, x: Tensor) -> Tensor:
        """The way back."""
        (rows, columns), side = self.grid, self.window
        x = x.reshape(-1, rows // side, columns // side, side, side, self.dim).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, rows, columns, self.dim)
        if any(self.shift):
            x = torch.roll(x, self.shift, dims=(1, 2))
        return x.reshape(-1, rows * columns, self.dim)
