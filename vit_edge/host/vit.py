"""The Vision Transformer classifier as its paper has it, the reference that every checkpoint is loaded into.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1, equations 1 to 4;
the distillation token is that of Touvron et al., "Training data-efficient image transformers" (ICML 2021).
Parameter names are those of timm's `VisionTransformer`, so its state dicts fit as they are.
"""

import dataclasses
import enum

import torch
from torch import Tensor, nn

from vit_edge.fields import settle_members, shown

# Beyond what any ViT has by a factor of four or more. Tables are made of some of these numbers before any
# weight is looked at, so a config could ask for more than a machine has.
_MOST = {
    "dim": 2**16,
    "depth": 1024,
    "heads": 1024,
    "mlp_dim": 2**20,
    "num_classes": 2**20,
    "channels": 64,
    "register_tokens": 1024,
}
_MOST_TOKENS = 2**18


class Pooling(enum.Enum):
    """What the head reads."""

    CLS = "cls"  # the class token
    MEAN = "mean"  # the mean of the patch tokens, prefix tokens left out


class Activation(enum.Enum):
    """Non-linearity of the feed-forward layers."""

    GELU = "gelu"  # exact, with erf
    GELU_TANH = "gelu_tanh"
    RELU = "relu"


class Distillation(enum.Enum):
    """Whether a DeiT distillation token takes part, and whether it has a head of its own."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105  a token of the sequence, not a secret
    HEAD = "head"  # the logits are the average of both heads


@dataclasses.dataclass(frozen=True)
class VitConfig:
    """The hyper-parameters of a Vision Transformer classifier.

    Raises:
        ValueError: sizes that no ViT can have.
    """

    image_size: tuple[int, int]  # pixels (height, width)
    patch_size: tuple[int, int]
    dim: int  # width of the residual stream
    depth: int  # encoder layers
    heads: int
    mlp_dim: int
    num_classes: int
    channels: int = 3
    cls_token: bool = True
    distillation: Distillation = Distillation.NONE
    register_tokens: int = 0
    pooling: Pooling = Pooling.CLS
    norm_after_pool: bool = False  # timm's `fc_norm`: the final norm is on the pooled vector
    activation: Activation = Activation.GELU
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse what cannot be built, naming the field."""
        settle_members(self)
        for name, most in _MOST.items():
            if not (name == "register_tokens" or getattr(self, name) >= 1) or getattr(self, name) > most:
                raise ValueError(f"{name} must be from 1 to {most}, got {shown(getattr(self, name))}")
        if min(*self.image_size, *self.patch_size) < 1 or self.register_tokens < 0:
            raise ValueError(
                f"image_size {self.image_size}, patch_size {self.patch_size} and register_tokens "
                f"{self.register_tokens} must be positive"
            )
        if any(size % patch for size, patch in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        if not 0 < self.layer_norm_eps < 1:
            raise ValueError(f"layer_norm_eps must be positive and below 1, got {self.layer_norm_eps}")
        if max(*self.image_size, *self.patch_size) > 8192 or self.tokens > _MOST_TOKENS:
            raise ValueError(
                f"image_size {self.image_size} with patch_size {self.patch_size} gives {self.tokens} tokens, "
                f"more than {_MOST_TOKENS}"
            )
        if not self.cls_token and self.pooling is Pooling.CLS:
            raise ValueError("pooling 'cls' needs cls_token")
        if self.distillation is not Distillation.NONE and self.pooling is not Pooling.CLS:
            raise ValueError("a distillation token needs pooling 'cls'")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: class, distillation, registers, in this order."""
        return int(self.cls_token) + int(self.distillation is not Distillation.NONE) + self.register_tokens

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]


class PatchEmbedding(nn.Module):
    """x_p = E · patch + b for each non-overlapping patch (equation 1); (N, C, H, W) to (N, patches, dim)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.dim, config.patch_size, stride=config.patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Row-major sequence of embedded patches."""
        projected: Tensor = self.proj(pixel_values)
        return projected.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(Q K^T / sqrt(head_dim)) V; (N, tokens, dim) to the same shape."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.shape = (-1, config.tokens, config.heads, config.dim // config.heads)
        self.scale = float(self.shape[-1] ** -0.5)
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Each token as a mixture of all tokens."""
        query, key, value = (
            part.reshape(self.shape).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        # Written out: the export of scaled_dot_product_attention drags guards against masked rows along.
        weights = torch.softmax((query * self.scale) @ key.transpose(-2, -1), dim=-1)
        mixed: Tensor = self.proj((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """Two linear layers with the activation between; acts on each token alone."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.dim, config.mlp_dim)
        self.act = _activation(config.activation)
        self.fc2 = nn.Linear(config.mlp_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) to the same shape."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection (equations 2 and 3)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, dim) to the same shape."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class VisionTransformer(nn.Module):
    """ViT classifier: normalised pixel_values float32 (N, channels, height, width) to logits float32 (N, C).

    Weights start from a truncated normal of standard deviation 0.02, biases from zero, as in timm.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.cls_token = _token(1, config.dim) if config.cls_token else None
        distilled = config.distillation is not Distillation.NONE
        self.dist_token = _token(1, config.dim) if distilled else None
        self.reg_token = _token(config.register_tokens, config.dim) if config.register_tokens else None
        self.pos_embed = _token(config.tokens, config.dim)
        self.blocks = nn.Sequential(*(EncoderLayer(config) for _ in range(config.depth)))
        norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.norm = nn.Identity() if config.norm_after_pool else norm
        self.fc_norm = norm if config.norm_after_pool else nn.Identity()
        self.head = nn.Linear(config.dim, config.num_classes)
        two_heads = config.distillation is Distillation.HEAD
        self.head_dist = nn.Linear(config.dim, config.num_classes) if two_heads else None
        self.apply(_initialise)

    def forward_features(self, pixel_values: Tensor) -> Tensor:
        """The whole sequence behind the final norm: (N, C, H, W) to (N, tokens, dim)."""
        patches = self.patch_embed(pixel_values)
        prefix = [
            token.expand(patches.shape[0], -1, -1)
            for token in (self.cls_token, self.dist_token, self.reg_token)
            if token is not None
        ]
        x = torch.cat([*prefix, patches], dim=1) + self.pos_embed
        features: Tensor = self.norm(self.blocks(x))
        return features

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised pixel_values (N, channels, height, width)."""
        tokens = self.forward_features(pixel_values)
        if self.config.pooling is Pooling.MEAN:
            pooled = tokens[:, self.config.prefix_tokens :].mean(dim=1)
        else:
            pooled = tokens[:, 0]
        logits: Tensor = self.head(self.fc_norm(pooled))
        if self.head_dist is None:
            return logits
        distilled: Tensor = self.head_dist(self.fc_norm(tokens[:, 1]))
        return (logits + distilled) / 2


def _token(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, dim), std=0.02))


def _activation(kind: Activation) -> nn.Module:
    if kind is Activation.RELU:
        return nn.ReLU()
    return nn.GELU(approximate="tanh" if kind is Activation.GELU_TANH else "none")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
