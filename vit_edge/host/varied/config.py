"""What tells one vision transformer from another, as a record."""

import dataclasses
import enum

from vit_edge.fields import settle_members, shown

_MOST = {
    "dim": 2**14,
    "depth": 256,
    "heads": 256,
    "mlp_dim": 2**17,
    "outputs": 2**20,
    "register_tokens": 256,
}
_MOST_TOKENS = 2**16


class Nonlinearity(enum.Enum):
    """Of the feed-forward layers."""

    GELU = "gelu"  # exact, with erf
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"  # x sigmoid(1.702 x), Radford et al. 2021
    GATED_SILU = "gated_silu"  # silu(gate) * up, Shazeer 2020


class Pool(enum.Enum):
    """What the head reads."""

    CLS = "cls"
    MEAN = "mean"  # of the patch tokens
    MAP = "map"  # attention with a learned query, Zhai et al. 2022, appendix


class Turning(enum.Enum):
    """Whose rotary positions."""

    EVA02 = "eva02"  # neighbouring columns, patches counted in a grid of reference (Fang et al. 2023)
    DINOV3 = "dinov3"  # halves of the columns, coordinates from -1 to 1 (Siméoni et al. 2025)


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Rotary positions of the patch tokens."""

    kind: Turning
    temperature: float
    reference: tuple[int, int] = (16, 16)  # of EVA-02: the grid (rows, columns) that it was trained on


@dataclasses.dataclass(frozen=True)
class VariedConfig:
    """The hyper-parameters of a `VariedVit`.

    Raises:
        ValueError: sizes that no ViT can have.
    """

    image_size: tuple[int, int]  # pixels (height, width)
    patch_size: tuple[int, int]
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    outputs: int  # of the head
    nonlinearity: Nonlinearity = Nonlinearity.GELU
    pool: Pool = Pool.CLS
    rotation: Rotation | None = None
    layer_norm_eps: float = 1e-6
    cls_token: bool = True
    register_tokens: int = 0
    qkv_bias: bool = True
    head: bool = True  # False: the pooled vector itself
    head_bias: bool = True
    norm_before_blocks: bool = False  # CLIP's ln_pre
    norm_before_pool: bool = True
    norm_after_pool: bool = False  # timm's fc_norm
    norm_of_heads: bool = False  # of queries and keys, each head by itself
    norm_of_mixed: bool = False  # EVA-CLIP's, between attention and its projection
    norm_of_hidden: bool = False  # EVA-02's, inside the feed-forward layer
    layer_scale: bool = False
    unit: bool = False  # whether the answer is brought to length 1

    def __post_init__(self) -> None:
        """Refuse what cannot be built, naming the field."""
        settle_members(self)
        for name, most in _MOST.items():
            least = 0 if name == "register_tokens" else 1
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {shown(getattr(self, name))}")
        if min(*self.image_size, *self.patch_size) < 1 or max(*self.image_size, *self.patch_size) > 8192:
            raise ValueError(f"image_size {self.image_size} or patch_size {self.patch_size} is no size")
        if any(size % patch for size, patch in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        if self.rotation is not None and (self.dim // self.heads) % 4:
            raise ValueError(f"heads of {self.dim // self.heads} columns cannot be turned in two directions")
        if self.pool is Pool.CLS and not self.cls_token:
            raise ValueError("pool 'cls' needs cls_token")
        if self.tokens > _MOST_TOKENS:
            raise ValueError(f"image_size {self.image_size} gives {self.tokens} tokens, too many")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: class, registers."""
        return int(self.cls_token) + self.register_tokens

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]
