"""timm's names of the transformers that are no plain ViT, and what each says that its weights do not.

The table is made from timm itself by `python -m tools.timm_names`.
"""

import dataclasses
import difflib
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import UsageError
from vit_edge.host.sources.checkpoints.form import Told
from vit_edge.host.sources.checkpoints.swin import Windows
from vit_edge.host.varied.config import Nonlinearity, Pool, Rotation, Turning

PATH = Path(__file__).with_name("timm_names.json")
TIMM_POOLS = {"token": Pool.CLS, "avg": Pool.MEAN, "map": Pool.MAP}  # by its `global_pool`


@dataclasses.dataclass(frozen=True)
class TimmName:
    """One architecture."""

    name: str
    size: tuple[int, int]  # pixels (height, width)
    tags: Mapping[str, Mapping[str, Any]]  # of pretrained weights, the default first, as in `pretrained_cfg`
    heads: int = 0  # 0 of a Swin
    pool: Pool = Pool.CLS
    eps: float = 1e-6
    activation: Nonlinearity = Nonlinearity.GELU
    rotation: Rotation | None = None
    window: int | None = None  # of a Swin; 0 where its weights show it
    parts: str = ""  # of a ViT, as `parts_of` tells them
    trained: tuple[int, ...] = ()  # windows that a Swin V2's coordinates are counted in

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> "TimmName":
        """A row of the table."""
        height, width = entry["size"]
        turned = entry.get("rotation")
        return cls(
            name,
            (height, width),
            entry["tags"],
            entry.get("heads", 0),
            Pool(entry.get("pool", "mean")),
            entry.get("eps", 1e-5),
            Nonlinearity(entry.get("activation", "gelu")),
            None if turned is None else Rotation(Turning(turned[0]), turned[1], (turned[2], turned[3])),
            entry.get("window"),
            entry.get("parts", ""),
            tuple(entry.get("trained", ())),
        )


@functools.cache
def timm_names() -> Mapping[str, TimmName]:
    """All of the table."""
    table = json.loads(PATH.read_text(encoding="utf-8"))["names"]
    return {name: TimmName.of(name, entry) for name, entry in table.items()}


def timm_name(name: str) -> TimmName | None:
    """The architecture of a name with or without a tag; None where the table does not have it."""
    return timm_names().get(name.partition(".")[0])


def nearest_names(name: str) -> list[str]:
    """Names that look like another, at most three."""
    return difflib.get_close_matches(name.partition(".")[0], timm_names(), n=3)


def told_of(known: TimmName) -> Told:
    """What shapes do not show of a ViT."""
    return Told(
        known.heads,
        known.activation,
        pool=known.pool,
        rotation=known.rotation,
        layer_norm_eps=known.eps,
        image_size=known.size,
    )


def windows_of(known: TimmName) -> Windows:
    """What shapes do not show of a Swin."""
    return Windows(known.size, known.window or None, known.trained)


def cfg_of(known: TimmName, tag: str) -> tuple[str, Mapping[str, Any]]:
    """The tag that holds, and its `pretrained_cfg`.

    Raises:
        UsageError: an unknown tag; the message names the known ones.
    """
    if tag and tag not in known.tags:
        raise UsageError(
            f"unknown timm tag {tag!r} of {known.name}: known are {', '.join(known.tags)}; leave the tag out "
            "and pass --mean, --std and --crop-pct for other weights"
        )
    used = tag or next(iter(known.tags))
    return used, known.tags[used]
