"""Weights of a ViT that is not the plain one: from a library's keys to `VariedVit`'s names and its record.

What shapes show is read off them; what they do not (heads, activation, pooling, rotary positions) is told.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.keys import listed
from vit_edge.host.sources.checkpoints.layout import LEFT_OVER, Resampling
from vit_edge.host.sources.checkpoints.resample import resampled_note, resize_position_embedding
from vit_edge.host.varied.config import Nonlinearity, Pool, Rotation, VariedConfig
from vit_edge.host.varied.model import VariedVit

# All but what a pooling or a classifier of one's own replaces, and the layers behind the first.
_PARTS = r"(?!norm\.|fc_norm\.|attn_pool\.|head\.|blocks\.[1-9]).*"
_GATE = "blocks.{}.mlp.fc1_g.weight"


@dataclasses.dataclass(frozen=True)
class Form:
    """A library's keys of such models."""

    library: str
    """For messages."""
    marks: tuple[str, ...]
    """As of a `Layout`: the first is the key of the patch embedding's weight; each is fitted by some key."""
    renamed: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]]
    """From a state dict (and its name for messages) to `VariedVit`'s names; what is unknown keeps its."""
    resampling: Resampling
    left_over: str = LEFT_OVER
    """Keys that no answer reads, as a regular expression."""

    def fits(self, keys: Iterable[str]) -> bool:
        """Whether a set of weights has these keys."""
        present = tuple(keys)
        return all(any(re.fullmatch(mark, key) for key in present) for mark in self.marks)


@dataclasses.dataclass(frozen=True)
class Told:
    """What shapes do not show."""

    heads: int
    nonlinearity: Nonlinearity = Nonlinearity.GELU
    pool: Pool | None = None  # None: as the weights have it, the class token where there is one
    rotation: Rotation | None = None
    layer_norm_eps: float = 1e-6
    unit: bool = False
    norm_after_pool: bool = False  # whether the final norm is on the pooled vector, where its key is `norm`
    image_size: tuple[int, int] | None = None  # that positions are of; else a square one


def build_form(
    form: Form, state: Mapping[str, Tensor], told: Told, where: str, asked: tuple[int, int] | None = None
) -> tuple[VariedVit, VariedConfig]:
    """The model with these weights, in eval mode, and the record of the size that it was trained at.

    Args:
        form: of the keys.
        state: float32.
        told: what shapes do not show.
        where: the source's name for messages.
        asked: pixels (height, width) to run at; another than the trained size resamples the positions.

    Raises:
        SourceError: missing or unexpected keys, shapes that do not fit, or an impossible size.
    """
    own = form.renamed(state, where)
    if told.norm_after_pool:
        own = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in own.items()}
    trained = _config(own, told, where)
    own["pos_embed"] = _positions(own, trained, where)
    own.setdefault("patch_embed.proj.bias", torch.zeros(trained.dim))
    config = trained
    if asked is not None and asked != trained.image_size:
        try:
            config = dataclasses.replace(trained, image_size=asked)
        except ValueError as error:
            raise SourceError(f"{where} cannot run at another size: {error}") from None
        own["pos_embed"] = resize_position_embedding(
            own["pos_embed"], config.prefix_tokens, trained.grid, config.grid, form.resampling
        )
    with torch.device("meta"):
        model = VariedVit(config)
    _refuse(own, model, form, where)
    model.load_state_dict({key: own[key] for key in model.state_dict()}, assign=True)
    return model.eval(), trained


def parts_of(form: Form, state: Mapping[str, Tensor], where: str) -> str:
    """Which parts weights have, and how wide they are, as a short text; heads, pooling and depth left out."""
    own = form.renamed(state, where)
    kept = sorted(key for key in own if re.fullmatch(_PARTS, key) and not re.fullmatch(form.left_over, key))
    shape = tuple(own["patch_embed.proj.weight"].shape) if "patch_embed.proj.weight" in own else ()
    return hashlib.sha256("\n".join((*kept, str(shape))).encode()).hexdigest()[:12]


def form_notes(trained: VariedConfig, used: VariedConfig, form: Form) -> tuple[str, ...]:
    """A note where the positions were resampled."""
    return resampled_note(trained.grid, used.grid, form.resampling)


def _config(own: Mapping[str, Tensor], told: Told, where: str) -> VariedConfig:
    """The record of weights under our names."""
    patches, first = own.get("patch_embed.proj.weight"), own.get("blocks.0.mlp.fc1.weight")
    gate = own.get(_GATE.format(0))
    hidden = first if gate is None else gate
    if patches is None or patches.ndim != 4 or hidden is None or patches.shape[1] != 3:
        raise SourceError(f"{where} does not show its architecture: pass the model itself as module:callable")
    depth = next(n for n in range(2**20) if f"blocks.{n}.norm1.weight" not in own)
    registers, head = own.get("reg_token"), own.get("head.weight")
    pool = told.pool or _pool(own)
    try:
        config = VariedConfig(
            image_size=(patches.shape[2], patches.shape[3]),
            patch_size=(patches.shape[2], patches.shape[3]),
            dim=patches.shape[0],
            depth=depth,
            heads=told.heads,
            mlp_dim=hidden.shape[0],
            outputs=patches.shape[0] if head is None else head.shape[0],
            nonlinearity=Nonlinearity.GATED_SILU if gate is not None else told.nonlinearity,
            pool=pool,
            rotation=told.rotation,
            layer_norm_eps=told.layer_norm_eps,
            cls_token="cls_token" in own,
            register_tokens=0 if registers is None else registers.shape[1],
            qkv_bias="blocks.0.attn.qkv.bias" in own,
            head=head is not None,
            head_bias="head.bias" in own,
            norm_before_blocks="norm_pre.weight" in own,
            norm_before_pool="norm.weight" in own,
            norm_after_pool="fc_norm.weight" in own,
            norm_of_heads="blocks.0.attn.q_norm.weight" in own,
            norm_of_mixed="blocks.0.attn.norm.weight" in own,
            norm_of_hidden="blocks.0.mlp.norm.weight" in own,
            layer_scale="blocks.0.ls1.gamma" in own,
            unit=told.unit,
        )
        return dataclasses.replace(config, image_size=_size(own, config, told, where))
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None


def _pool(own: Mapping[str, Tensor]) -> Pool:
    if "attn_pool.latent" in own:
        return Pool.MAP
    return Pool.CLS if "cls_token" in own and "fc_norm.weight" not in own else Pool.MEAN


def _size(own: Mapping[str, Tensor], config: VariedConfig, told: Told, where: str) -> tuple[int, int]:
    """The image whose patches have these positions: the one that is told, or a square one."""
    positions = own.get("pos_embed")
    if positions is None or positions.ndim != 3:
        if told.image_size is None:
            raise SourceError(f"{where} has no positions to read its image size off: name it with --arch")
        return told.image_size
    counts = (positions.shape[1], positions.shape[1] - config.prefix_tokens)
    if told.image_size is not None:
        known = dataclasses.replace(config, image_size=told.image_size).grid
        if known[0] * known[1] in counts:
            return told.image_size
    for count in counts:
        side = math.isqrt(max(count, 0))
        if side and side * side == count:
            return side * config.patch_size[0], side * config.patch_size[1]
    raise SourceError(
        f"{where} has positions of no square image: say with --image-size HEIGHTxWIDTH what it was trained at"
    )


def _positions(own: Mapping[str, Tensor], config: VariedConfig, where: str) -> Tensor:
    """One for each token, (1, tokens, dim); a token without a position has zero."""
    found = own.get("pos_embed")
    if found is None:
        return torch.zeros(1, config.tokens, config.dim)
    missing = config.tokens - found.shape[1]
    if found.ndim != 3 or missing not in (0, config.prefix_tokens):
        raise SourceError(
            f"{where} has positions of shape {tuple(found.shape)} for {config.tokens} tokens: say with "
            "--image-size HEIGHTxWIDTH what it was trained at"
        )
    return torch.nn.functional.pad(found, (0, 0, missing, 0))


def _refuse(own: Mapping[str, Tensor], model: VariedVit, form: Form, where: str) -> None:
    """Whatever does not fit, by name."""
    expected = model.state_dict()
    missing = sorted(set(expected) - set(own))
    unexpected = sorted(key for key in set(own) - set(expected) if not re.fullmatch(form.left_over, key))
    said = [f"lacks {listed(missing)}"] * bool(missing)
    said += [f"has the unexpected {listed(unexpected)}"] * bool(unexpected)
    if said:
        raise SourceError(
            f"{where} has keys of {form.library}, but not those of a model that is known: it "
            f"{' and '.join(said)} (pass the model itself as module:callable)"
        )
    for key, value in expected.items():
        if own[key].shape != value.shape:
            raise SourceError(
                f"{where}: {key} has shape {tuple(own[key].shape)} where {tuple(value.shape)} is expected: "
                "check the architecture and the image size"
            )
