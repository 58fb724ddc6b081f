"""What timm's names say that weights do not, as a table for sources that are read without timm.

Needs timm and torchvision, which the project does not: an environment of its own, such as that of
`bash tools/libraries_check`, and this package.

    python -m tools.timm_names [-o FILE]

A model joins the table where its parts are those that `VariedVit` or `Swin` has, and its weights, renamed,
are theirs by name and shape. `tests/host/libraries/test_timm.py` compares what they compute.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.form import build_form, parts_of
from vit_edge.host.sources.checkpoints.layouts.swin import TIMM_SWIN
from vit_edge.host.sources.checkpoints.layouts.timm_forms import TIMM_VARIED
from vit_edge.host.sources.checkpoints.swin import build_swin
from vit_edge.host.sources.timm_names import PATH, TimmName, told_of, windows_of
from vit_edge.host.varied.config import Nonlinearity, Pool, Rotation, Turning

_MODULES = ("vision_transformer", "eva", "swin_transformer", "swin_transformer_v2")
_POOLS = {"token": Pool.CLS, "avg": Pool.MEAN, "map": Pool.MAP}
_BLOCKS = ("Block", "EvaBlock")
_ATTENTIONS = ("Attention", "EvaAttention")
_NORMS = ("LayerNorm", "Identity")


class NotPlainError(Exception):
    """A part that our modules do not have."""


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=PATH, metavar="FILE")
    args = parser.parse_args()
    import timm

    table: dict[str, Any] = {}
    for name in timm.list_models():
        module = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        if module not in _MODULES or name.startswith("test_"):
            continue
        try:
            table[name] = _entry(timm, name, swin=module.startswith("swin"))
        except (NotPlainError, SourceError, AttributeError, TypeError) as error:
            print(f"{name} stays out: {str(error)[:100]}", file=sys.stderr)
    args.output.write_text(json.dumps({"timm": timm.__version__, "names": table}, indent=0) + "\n")
    print(f"{args.output}: {len(table)} names of timm {timm.__version__}")
    return 0


def _entry(timm: Any, name: str, *, swin: bool) -> dict[str, Any]:
    with torch.device("meta"):
        model = timm.create_model(name)
    entry = _swin(model) if swin else _varied(model)
    entry["tags"] = _tags(timm, name)
    known = TimmName.of(name, entry)
    if swin:
        state = {key: torch.zeros(value.shape) for key, value in model.state_dict().items()}
        build_swin(TIMM_SWIN, state, windows_of(known), name)
    else:
        build_form(TIMM_VARIED, model.state_dict(), told_of(known), name)
        entry["parts"] = parts_of(TIMM_VARIED, model.state_dict(), name)
    return entry


def _varied(model: nn.Module) -> dict[str, Any]:
    """Everything that `Told` asks for, read off timm's module."""
    any_model: Any = model
    block = any_model.blocks[0]
    _is(type(block).__name__ in _BLOCKS, f"blocks are {type(block).__name__}")
    _is(type(block.attn).__name__ in _ATTENTIONS, f"attention is {type(block.attn).__name__}")
    _is(getattr(block.attn, "gate", None) is None, "attention is gated")
    _is(not getattr(any_model, "pool_include_prefix", False), "the pool includes the prefix")
    _is(any_model.global_pool in _POOLS, f"it pools by {any_model.global_pool!r}")
    _is(type(any_model.patch_embed).__name__ == "PatchEmbed", "its patches are embedded otherwise")
    pool = getattr(any_model, "attn_pool", None)
    _is(pool is None or pool.num_heads == block.attn.num_heads, "its pooling has heads of its own")
    norms = [each for each in model.modules() if "Norm" in type(each).__name__]
    others = {type(each).__name__ for each in norms} - set(_NORMS)
    _is(not others, f"its norms are {', '.join(sorted(others))}")
    epsilons = {each.eps for each in norms if isinstance(each, nn.LayerNorm)}
    _is(len(epsilons) == 1, f"its norms differ in epsilon {sorted(epsilons)}")
    entry: dict[str, Any] = {
        "size": list(any_model.patch_embed.img_size),
        "heads": block.attn.num_heads,
        "pool": _POOLS[any_model.global_pool].value,
        "eps": epsilons.pop(),
        "activation": _activation(block).value,
    }
    rotation = _rotation(getattr(any_model, "rope", None))
    if rotation is not None:
        entry["rotation"] = [rotation.kind.value, rotation.temperature, *rotation.reference]
    return entry


def _activation(block: Any) -> Nonlinearity:
    kinds = [each for each in block.mlp.modules() if not list(each.children())]
    names = {type(each).__name__ for each in kinds} - {"Linear", "Dropout", "Identity", "LayerNorm"}
    if names <= {"SiLU"} and type(block.mlp).__name__ in ("SwiGLU", "GluMlp"):
        return Nonlinearity.GATED_SILU
    _is(type(block.mlp).__name__ == "Mlp", f"the feed-forward layer is {type(block.mlp).__name__}")
    if names == {"GELU"}:
        tanh = getattr(block.mlp.act, "approximate", "none") == "tanh"
        return Nonlinearity.GELU_TANH if tanh else Nonlinearity.GELU
    if names == {"GELUTanh"}:
        return Nonlinearity.GELU_TANH
    _is(names == {"QuickGELU"}, f"the activation is {', '.join(sorted(names))}")
    return Nonlinearity.QUICK_GELU


def _rotation(rope: Any) -> Rotation | None:
    if rope is None:
        return None
    kind = type(rope).__name__
    plain = getattr(rope, "grid_offset", 0.0) == 0.0 and getattr(rope, "grid_indexing", "ij") == "ij"
    if kind == "RotaryEmbeddingCat" and plain and not rope.rotate_half and not rope.in_pixels:
        reference = rope.ref_feat_shape
        _is(reference is not None, "its rotary positions are counted in the grid itself")
        return Rotation(Turning.EVA02, float(rope.temperature), (reference[0], reference[1]))
    if kind == "RotaryEmbeddingDinoV3" and plain and rope.rotate_half and rope.min_period is None:
        _is(rope.normalize_coords == "separate", f"its coordinates are {rope.normalize_coords}")
        return Rotation(Turning.DINOV3, float(rope.temperature))
    raise NotPlainError(f"its rotary positions are {kind}")


def _swin(model: nn.Module) -> dict[str, Any]:
    any_model: Any = model
    block = any_model.layers[0].blocks[0]
    _is(any_model.global_pool == "avg", f"it pools by {any_model.global_pool!r}")
    _is(any_model.norm.eps == 1e-5, "its norms have another epsilon")
    entry: dict[str, Any] = {"size": list(any_model.patch_embed.img_size)}
    if hasattr(block.attn, "cpb_mlp"):
        entry["window"] = any_model.layers[0].blocks[0].window_size[0]
        trained = [each.blocks[0].attn.pretrained_window_size[0] for each in any_model.layers]
        entry["trained"] = trained
    else:
        entry["window"] = 0
    return entry


def _tags(timm: Any, name: str) -> dict[str, Any]:
    """How images are prepared for each published set of weights, the default first."""
    default = timm.models.get_pretrained_cfg(name).tag
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    ordered = sorted(tags or [default or ""], key=lambda tag: tag != default)
    made = {}
    for tag in ordered:
        cfg = timm.models.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        made[tag] = {
            "classes": cfg.num_classes,
            "crop_pct": cfg.crop_pct,
            "interpolation": cfg.interpolation,
            "mean": [round(each, 8) for each in cfg.mean],
            "std": [round(each, 8) for each in cfg.std],
            **({"crop_mode": cfg.crop_mode} if cfg.crop_mode not in (None, "center") else {}),
        }
    return made


def _is(plain: bool, told: str) -> None:
    if not plain:
        raise NotPlainError(told)


if __name__ == "__main__":
    sys.exit(main())
