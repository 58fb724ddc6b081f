"""A canonical ViT in numbers."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Description:
    """A canonical ViT in numbers; `image` and `patch` are (height, width) in pixels."""

    depth: int
    stages: tuple[
        int, ...
    ]  # blocks of each; a plain ViT has one stage. Widths and tokens are those of the last
    width: int
    heads: int
    mlp_width: int
    activation: str
    tokens: int
    prefix_tokens: int
    last_block_tokens: int  # rows that the last block computes; fewer than `tokens` where the head reads few
    pooling: str  # "tokens 0..1", "mean" or both
    classes: int  # channels of the first output of a dense head
    image: tuple[int, int]
    patch: tuple[int, int]
    channels: int
    head: tuple[str, ...] = ()  # what makes the maps of a dense head: "3 ConvTranspose"; () of a classifier

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}
