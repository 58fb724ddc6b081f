"""What a layout of a checkpoint's keys is: who names them so, and which keys hold which parameter.

Parameters are those of `VisionTransformer`, as `NAMES` writes them: `{layer}` stands for the number of an
encoder layer from 0, `{kind}` for weight or bias.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping

from vit_edge.errors import SourceError
from vit_edge.host.sources.types import Library
from vit_edge.host.vit import Distillation, VitConfig

KeyTable = dict[str, tuple[str, ...]]
KeyNames = Mapping[str, str | tuple[str, ...]]  # three keys for query, key and value, stacked in this order

PATCHES = "patch_embed.proj.{kind}"
QKV = "blocks.{layer}.attn.qkv.{kind}"
FEED_FORWARD = "blocks.{layer}.mlp.fc1.{kind}"
HEAD, SECOND_HEAD = "head.{kind}", "head_dist.{kind}"
_IN_EVERY = (
    "pos_embed",
    PATCHES,
    "blocks.{layer}.norm1.{kind}",
    QKV,
    "blocks.{layer}.attn.proj.{kind}",
    "blocks.{layer}.norm2.{kind}",
    FEED_FORWARD,
    "blocks.{layer}.mlp.fc2.{kind}",
    HEAD,
)
_IN_SOME = ("cls_token", "dist_token", "reg_token", "norm.{kind}", "fc_norm.{kind}", SECOND_HEAD)
NAMES = (*_IN_EVERY, *_IN_SOME)

# Left over from pretraining and read by no classifier's logits: the token that stands for masked patches, and
# a decoder.
LEFT_OVER = r"mask_token|decoder\w*(?:\..*)?"


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How a library resamples positions for another image size: bicubic, in float32."""

    library: str
    antialias: bool
    """Whether a smaller grid averages over what it leaves out; timm's bicubic kernel also has another slope
    (a = -0.5 instead of -0.75) with it, so that a larger grid differs, too."""
    align_corners: bool = False
    """Whether the outermost positions stay where they are."""

    @property
    def words(self) -> str:
        """For notes."""
        corners = ", corners aligned" if self.align_corners else ""
        return f"{self.library} (bicubic, {'' if self.antialias else 'not '}antialiased{corners})"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Who named the keys, and how."""

    library: str
    """For messages."""
    marks: tuple[str, ...]
    """Regular expressions, each of which some key fits in full. The first is that of the patch embedding's
    weight, by which weights are found in containers and behind prefixes; others tell the layout from its
    siblings."""
    keys: Callable[[Distillation], KeyNames]
    """From each of `NAMES` that the library has to its key, for a model with this distillation."""
    resampling: Resampling
    layer_norm_eps: float
    """Of the published models, where no config says it."""
    distillation: Callable[[Iterable[str]], Distillation] | None = None
    """What the keys say of it; None: the architecture's name says it."""
    averages: bool = False
    """Whether weights without a class token, or with `fc_norm`, are of a model that averages its patches."""
    left_over: str = LEFT_OVER
    """Keys that no classifier's logits read, as a regular expression."""
    pipeline: Library | None = None
    """What reads a bare file of these keys by its architecture's name as it is read here."""
    has_folders: bool = False
    """Whether a config.json beside a bare file describes it."""

    def fits(self, keys: Iterable[str]) -> bool:
        """Whether a set of weights has this layout."""
        present = tuple(keys)
        return all(any(re.fullmatch(mark, key) for key in present) for mark in self.marks)

    def key(self, name: str, distillation: Distillation, layer: int = 0, kind: str = "weight") -> str:
        """The first key of one of `NAMES`; empty where the library has no such parameter."""
        keys = self.keys(distillation).get(name)
        return "" if keys is None else _each(keys)[0].format(layer=layer, kind=kind)

    def table(self, config: VitConfig, where: str) -> KeyTable:
        """Every parameter of `VisionTransformer(config)` with the keys that hold it.

        Raises:
            SourceError: a parameter that the library does not have.
        """
        names = self.keys(config.distillation)
        table = {}
        for name in _names(config):
            if name not in names:
                raise SourceError(
                    f"{where} has the keys of {self.library}, whose ViT has no {name.partition('.')[0]}: "
                    "check the architecture"
                )
            kinds = ("weight", "bias") if name != QKV or config.qkv_bias else ("weight",)
            layers = range(config.depth if "{layer}" in name else 1)
            for layer, kind in itertools.product(layers, kinds):
                keys = tuple(key.format(layer=layer, kind=kind) for key in _each(names[name]))
                table[name.format(layer=layer, kind=kind)] = keys
        return table


def _each(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys


def _names(config: VitConfig) -> tuple[str, ...]:
    """Which of `NAMES` a configuration has."""
    present = {
        "cls_token": config.cls_token,
        "dist_token": config.distillation is not Distillation.NONE,
        "reg_token": config.register_tokens > 0,
        "norm.{kind}": not config.norm_after_pool,
        "fc_norm.{kind}": config.norm_after_pool,
        SECOND_HEAD: config.distillation is Distillation.HEAD,
    }
    return (*_IN_EVERY, *(name for name in _IN_SOME if present[name]))
