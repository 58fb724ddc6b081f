"""A vision transformer made of what its record says; parameter names are timm's.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Fang et al. 2023 (EVA-02), Oquab et al. 2024
(DINOv2), Siméoni et al. 2025 (DINOv3), and timm's vision_transformer.py and eva.py, whose names these are.
"""

import torch
from torch import Tensor, nn

from vit_edge.host.unit import unit
from vit_edge.host.varied.config import Nonlinearity, Pool, VariedConfig
from vit_edge.host.varied.rotary import exchanged, tables

_QUICK = 1.702


class VariedVit(nn.Module):
    """Normalised pixel_values float32 (N, 3, height, width) to logits or embeddings float32 (N, outputs)."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        self.config = config
        convolution = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": convolution})
        self.cls_token = _table(1, config) if config.cls_token else None
        self.reg_token = _table(config.register_tokens, config) if config.register_tokens else None
        self.pos_embed = _table(config.tokens, config)
        self.norm_pre = _norm(config, config.norm_before_blocks)
        self.blocks = nn.Sequential(*(_Block(config) for _ in range(config.depth)))
        self.norm = _norm(config, config.norm_before_pool)
        self.attn_pool = _Pooling(config) if config.pool is Pool.MAP else None
        self.fc_norm = _norm(config, config.norm_after_pool)
        head = nn.Linear(config.dim, config.outputs, bias=config.head_bias)
        self.head = head if config.head else nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits or embeddings (N, outputs)."""
        patches = self.patch_embed["proj"](pixel_values).flatten(2).transpose(1, 2)
        prefix = [
            token.expand(patches.shape[0], -1, -1)
            for token in (self.cls_token, self.reg_token)
            if token is not None
        ]
        x = torch.cat([*prefix, patches], dim=1) if prefix else patches
        x = self.norm(self.blocks(self.norm_pre(x + self.pos_embed)))
        if self.attn_pool is not None:
            pooled = self.attn_pool(x[:, self.config.prefix_tokens :])
        elif self.config.pool is Pool.MEAN:
            pooled = x[:, self.config.prefix_tokens :].mean(dim=1)
        else:
            pooled = x[:, 0]
        answer: Tensor = self.head(self.fc_norm(pooled))
        return unit(answer) if self.config.unit else answer


class _Block(nn.Module):
    """An encoder layer, each half with its own normalization before and its LayerScale behind."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        self.norm1, self.attn = _norm(config), _Attention(config)
        self.norm2, self.mlp = _norm(config), _FeedForward(config)
        self.ls1 = _Scale(config) if config.layer_scale else nn.Identity()
        self.ls2 = _Scale(config) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) to the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class _Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        width = config.dim // config.heads
        self.shape, self.scale = (-1, config.tokens, config.heads, width), float(width**-0.5)
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.q_norm = _norm(config, config.norm_of_heads, width)
        self.k_norm = _norm(config, config.norm_of_heads, width)
        self.norm = _norm(config, config.norm_of_mixed)
        self.proj = nn.Linear(config.dim, config.dim)
        self.rotation, self.prefix = config.rotation, config.prefix_tokens
        if config.rotation is not None:
            cosine, sine = tables(config.rotation, config.grid, width)
            self.cosine, self.sine = nn.Buffer(cosine, persistent=False), nn.Buffer(sine, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each token as a mixture of all tokens."""
        query, key, value = (
            part.reshape(self.shape).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        query, key = self._turned(self.q_norm(query)), self._turned(self.k_norm(key))
        weights = torch.softmax((query * self.scale) @ key.transpose(-2, -1), dim=-1)
        mixed: Tensor = self.proj(self.norm((weights @ value).transpose(1, 2).flatten(2)))
        return mixed

    def _turned(self, x: Tensor) -> Tensor:
        if self.rotation is None:
            return x
        rest = x[:, :, self.prefix :]
        turned = rest * self.cosine + exchanged(rest, self.rotation.kind) * self.sine
        return torch.cat([x[:, :, : self.prefix], turned], dim=2) if self.prefix else turned


class _FeedForward(nn.Module):
    """Two linear layers with the activation between, or three where one gates another."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        self.kind = config.nonlinearity
        if self.kind is Nonlinearity.GATED_SILU:
            self.fc1_g = nn.Linear(config.dim, config.mlp_dim)
            self.fc1_x = nn.Linear(config.dim, config.mlp_dim)
        else:
            self.fc1 = nn.Linear(config.dim, config.mlp_dim)
        self.norm = _norm(config, config.norm_of_hidden, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) to the same shape."""
        if self.kind is Nonlinearity.GATED_SILU:
            hidden = nn.functional.silu(self.fc1_g(x)) * self.fc1_x(x)
        else:
            hidden = _activated(self.fc1(x), self.kind)
        y: Tensor = self.fc2(self.norm(hidden))
        return y


class _Pooling(nn.Module):
    """A learned query reads all patches, then a feed-forward layer: (N, patches, dim) to (N, dim)."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        self.heads, self.dim = config.heads, config.dim
        self.latent = _table(1, config)
        self.q = nn.Linear(config.dim, config.dim)
        self.kv = nn.Linear(config.dim, 2 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.norm = _norm(config)
        self.mlp = _FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """The vector of the whole image."""
        batch, tokens, _ = x.shape
        width = self.dim // self.heads
        query = self.q(self.latent.expand(batch, -1, -1)).reshape(batch, 1, self.heads, width).transpose(1, 2)
        key, value = (
            part.reshape(batch, tokens, self.heads, width).transpose(1, 2)
            for part in self.kv(x).chunk(2, dim=-1)
        )
        weights = torch.softmax((query * float(width**-0.5)) @ key.transpose(-2, -1), dim=-1)
        pooled = self.proj((weights @ value).transpose(1, 2).reshape(batch, 1, self.dim))
        pooled = pooled + self.mlp(self.norm(pooled))
        vector: Tensor = pooled[:, 0]
        return vector


class _Scale(nn.Module):
    """LayerScale (Touvron et al. 2021)."""

    def __init__(self, config: VariedConfig) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(config.dim))

    def forward(self, x: Tensor) -> Tensor:
        """Each column by its own factor."""
        return x * self.gamma


def _table(rows: int, config: VariedConfig) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, rows, config.dim))


def _norm(config: VariedConfig, present: bool = True, width: int | None = None) -> nn.Module:
    return nn.LayerNorm(width or config.dim, eps=config.layer_norm_eps) if present else nn.Identity()


def _activated(x: Tensor, kind: Nonlinearity) -> Tensor:
    if kind is Nonlinearity.QUICK_GELU:
        return x * torch.sigmoid(_QUICK * x)
    return nn.functional.gelu(x, approximate="tanh" if kind is Nonlinearity.GELU_TANH else "none")
