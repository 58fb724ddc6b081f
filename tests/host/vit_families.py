"""Small models of the families beside ViT and DeiT as transformers and timm write them, weights random."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests.host.vit_forms import (
    CLASSES,
    DEPTH,
    DIM,
    DINO,
    HEADS,
    IMAGE,
    MLP,
    PATCH,
    PATCHES,
    PATCHES_ONLY,
    SIZES,
    Block,
    Form,
    Logits,
    PackedAttention,
    PlainVit,
    described,
    hugging_face,
    plain,
)


class _Tower(nn.Module):
    """A vision tower with a linear head on what it pools."""

    def __init__(self, model: nn.Module, width: int = DIM) -> None:
        super().__init__()
        self.model, self.head = model, nn.Linear(width, CLASSES)

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.head(self.model(pixel_values=pixel_values).pooler_output)
        return logits


def _tower(name: str, attention: str = "sdpa", **changes: Any) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(attn_implementation=attention, **SIZES, **changes)
    return _Tower(getattr(transformers, f"{name}Model")(config))


class NormedAttention(PackedAttention):
    """Queries and keys are normalised, each head by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.LayerNorm(DIM // HEADS), nn.LayerNorm(DIM // HEADS)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mix(self.q_norm(q), self.k_norm(k), v)


class RotaryAttention(PackedAttention):
    """As timm's EVA-02 writes it: neighbours are turned, the class token is cut off and joined again."""

    def __init__(self) -> None:
        super().__init__()
        side, width = IMAGE // PATCH, DIM // HEADS
        bands = 100.0 ** (-torch.arange(width // 4) / (width // 4))
        places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), dim=-1)
        angles = (places.reshape(-1, 2, 1) * bands).flatten(1).repeat_interleave(2, dim=-1)
        self.cos, self.sin = (nn.Buffer(table) for table in (angles.cos(), angles.sin()))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mix(self.turned(q), self.turned(k), v)

    def turned(self, x: Tensor) -> Tensor:
        """All tokens but the first."""
        first, rest = x[:, :, :1], x[:, :, 1:]
        exchanged = torch.stack([-rest[..., 1::2], rest[..., ::2]], dim=-1).reshape(rest.shape)
        return torch.cat([first, rest * self.cos + exchanged * self.sin], dim=2)


class NormedRotaryAttention(NormedAttention, RotaryAttention):
    """Both: normalised, then turned."""


class Gated(nn.Module):
    """As EVA-02: two projections, SiLU on one, their product normalised before the last projection."""

    def __init__(self, *, packed: bool = False, normed: bool = True) -> None:
        super().__init__()
        self.packed = packed
        self.gate = nn.Linear(DIM, 2 * MLP if packed else MLP)
        self.up = nn.Identity() if packed else nn.Linear(DIM, MLP)
        self.norm = nn.LayerNorm(MLP) if normed else nn.Identity()
        self.down = nn.Linear(MLP, DIM)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x).chunk(2, dim=-1) if self.packed else (self.gate(x), self.up(x))
        y: Tensor = self.down(self.norm(nn.functional.silu(gate) * up))
        return y


def _with_mlp(attention: Callable[[], nn.Module], mlp: Callable[[], nn.Module]) -> nn.Module:
    blocks = [Block(attention(), nn.GELU()) for _ in range(DEPTH)]
    for block in blocks:
        block.mlp = mlp()  # type: ignore[assignment]
    return PlainVit(*blocks)


class WrittenOutRms(nn.Module):
    """RMS normalization as language models write it, in float32 whatever comes in."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(columns))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        made: Tensor = self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5))
        return made


def _of_rms(norm: Callable[[int], nn.Module]) -> nn.Module:
    """A ViT that normalises by the root of the mean square throughout, its MLPs gated."""
    model = _with_mlp(PackedAttention, lambda: Gated(normed=False))
    for block in model.blocks:  # type: ignore[union-attr]
        block.norm1, block.norm2 = norm(DIM), norm(DIM)
    model.norm = norm(DIM)
    return model


class PooledVit(PlainVit):
    """As timm's `map`: a learned query reads all patches, then an MLP of its own."""

    def __init__(self) -> None:
        super().__init__(*(Block(PackedAttention(), nn.GELU()) for _ in range(DEPTH)), class_token=False)
        self.query = nn.Parameter(torch.zeros(1, 1, DIM))
        self.q, self.kv, self.proj = nn.Linear(DIM, DIM), nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, DIM)
        self.pool_norm = nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, MLP), nn.GELU(), nn.Linear(MLP, DIM))

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(x + self.positions))
        batch, tokens, dim = x.shape
        query = self.query.expand(batch, -1, -1)
        q = self.q(query).reshape(batch, 1, HEADS, dim // HEADS).transpose(1, 2)
        k, v = self.kv(x).reshape(batch, tokens, 2, HEADS, dim // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = self.proj(mixed.transpose(1, 2).reshape(batch, 1, dim))
        x = x + self.mlp(self.pool_norm(x))
        logits: Tensor = self.head(x[:, 0])
        return logits


def _two_towers(name: str) -> nn.Module:
    """A classifier on the vision tower of a model that has a text tower, too."""
    config = getattr(transformers, f"{name}Config")(vision_config=SIZES, num_labels=CLASSES)
    return Logits(getattr(transformers, f"{name}ForImageClassification")(config))


_ALL_ROWS = {"last_block_tokens": PATCHES + 1, "pooling": "mean and tokens 1..17"}
_POOLED = {**PATCHES_ONLY, "pooling": "attention"}
_BEIT = _ALL_ROWS
_REGISTERED = {"last_block_tokens": PATCHES + 5}
_TURNED = {"last_block_tokens": PATCHES + 1}


def _swin(attention: str = "eager") -> nn.Module:
    config = transformers.SwinConfig(
        image_size=IMAGE,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
        num_labels=CLASSES,
        attn_implementation=attention,
    )
    return Logits(transformers.SwinForImageClassification(config))


def _swin_v2() -> nn.Module:
    config = transformers.Swinv2Config(
        image_size=IMAGE,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
        num_labels=CLASSES,
    )
    return Logits(transformers.Swinv2ForImageClassification(config))


_SWIN = {
    "depth": 4,
    "stages": (2, 2),
    "heads": 4,
    "tokens": 16,
    "prefix_tokens": 0,
    "last_block_tokens": 16,
    "pooling": "mean",
    "patch": (2, 2),
}
FAMILIES: dict[str, Form] = {
    "swin": Form(_swin, described(**_SWIN)),
    "swin-sdpa": Form(lambda: _swin("sdpa"), described(**_SWIN)),
    "swin-v2": Form(_swin_v2, described(**_SWIN)),
    "clip": Form(lambda: _tower("CLIPVision", hidden_act="quick_gelu"), described(activation="quick_gelu")),
    "clip-classifier": Form(lambda: _two_towers("CLIP"), described(activation="quick_gelu", **_ALL_ROWS)),
    "siglip": Form(lambda: _tower("SiglipVision"), described(activation="gelu_tanh", **_POOLED)),
    "siglip-classifier": Form(
        lambda: _two_towers("Siglip"), described(activation="gelu_tanh", **PATCHES_ONLY)
    ),
    "map": Form(PooledVit, described(**_POOLED)),
    "dinov3": Form(
        lambda: _tower("DINOv3ViT", num_register_tokens=4),
        described(tokens=PATCHES + 5, prefix_tokens=5, **_REGISTERED),
    ),
    "dinov3-gated": Form(
        lambda: _tower("DINOv3ViT", "eager", use_gated_mlp=True, hidden_act="silu"),
        described(activation="gated_silu", **_TURNED),
    ),
    "dinov2-giant": Form(
        lambda: hugging_face("Dinov2", **DINO, use_swiglu_ffn=True),
        described(
            activation="gated_silu",
            mlp_width=48,
            last_block_tokens=PATCHES + 1,
            pooling="mean and tokens 0..1 and tokens 1..17",
        ),
    ),
    "beit": Form(lambda: hugging_face("Beit", "eager", use_relative_position_bias=True), described(**_BEIT)),
    "beit-sdpa": Form(lambda: hugging_face("Beit", use_relative_position_bias=True), described(**_BEIT)),
    "beit-shared": Form(
        lambda: hugging_face("Beit", "eager", use_shared_relative_position_bias=True), described(**_BEIT)
    ),
    "data2vec": Form(
        lambda: hugging_face("Data2VecVision", "eager", use_relative_position_bias=True), described(**_BEIT)
    ),
    "eva": Form(lambda: _with_mlp(RotaryAttention, Gated), described(activation="gated_silu", **_TURNED)),
    "gated-packed": Form(
        lambda: _with_mlp(PackedAttention, lambda: Gated(packed=True, normed=False)),
        described(activation="gated_silu"),
    ),
    "rms": Form(lambda: _of_rms(nn.RMSNorm), described(activation="gated_silu")),
    "rms-written-out": Form(lambda: _of_rms(WrittenOutRms), described(activation="gated_silu")),
    "aimv2": Form(
        lambda: _tower("Aimv2Vision", hidden_act="silu"), described(activation="gated_silu", **_POOLED)
    ),
    "aimv2-native": Form(
        lambda: _tower("Aimv2Vision", hidden_act="silu", is_native=True),
        described(activation="gated_silu", **_POOLED),
    ),
    "normed-heads": Form(lambda: plain(NormedAttention), described()),
    "normed-rotary": Form(lambda: plain(NormedRotaryAttention), described(**_TURNED)),
}
