"""A folder as timm pushes it to the Hugging Face hub: config.json with architecture and pretrained_cfg.

Source: timm.models._hub.save_config_for_hf and timm.data.resolve_data_config.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.archs import ARCHS, find_arch
from vit_edge.host.sources.checkpoints import (
    build,
    detect_layout,
    files_sha256,
    read_weights,
    resize_notes,
)
from vit_edge.host.sources.checkpoints.layouts.timm import TIMM
from vit_edge.host.sources.checkpoints.shards import weight_files
from vit_edge.host.sources.huggingface import published_config
from vit_edge.host.sources.infer import at_trained_size, described
from vit_edge.host.sources.jsonfile import read_any, sides
from vit_edge.host.sources.labels import choose_labels
from vit_edge.host.sources.preprocessing import to_processor, with_options
from vit_edge.host.sources.timm_data import from_pretrained_cfg
from vit_edge.host.sources.timm_module import from_timm_module, timm_has
from vit_edge.host.sources.timm_names import timm_name
from vit_edge.host.sources.timm_source import Weights, from_timm_weights
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.host.vit import Pooling, VitConfig

# Arguments of a model that the weights show themselves, or that change nothing once it is trained.
_HARMLESS = frozenset(
    {
        "img_size",
        "num_classes",
        "global_pool",
        "class_token",
        "dynamic_img_size",
        "dynamic_img_pad",
        "in_chans",
    }
    | {"strict_img_size", "drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate", "pos_drop_rate"}
    | {"reg_tokens", "no_embed_class", "fc_norm", "qkv_bias", "weight_init", "patch_drop_rate"}
)
_POOLS = {"token": Pooling.CLS, "avg": Pooling.MEAN}


def from_timm_folder(folder: Path, raw: Mapping[str, Any], name: str, options: SourceOptions) -> Source:
    """Read the folder; its data config says how images are preprocessed.

    Args:
        folder: with the weights.
        raw: its config.json.
        name: of the source.
        options: what the user states.

    Raises:
        SourceError: an unknown architecture, malformed config, or weights that do not fit.
        UsageError: an architecture that is not known.
    """
    where = str(folder / "config.json")
    files = weight_files(folder)
    named = raw["architecture"]
    other = named not in ARCHS and (timm_name(named) is not None or timm_has(named))
    arch = None if other else find_arch(named)
    if not files:
        raise SourceError(f"{folder} has no model.safetensors: fetch the whole folder")
    state = read_weights(files, options.allow_pickle, options.weights)
    if arch is None:
        return _other(files, state, raw, name, options)
    if detect_layout(state, str(files[0])) is not TIMM:
        raise SourceError(f"{files[0]} does not have timm's keys, which {where} speaks of: fetch it again")
    config = _pooled(described(arch, state, TIMM, str(files[0])), raw, where)
    own = raw.get("pretrained_cfg", raw)
    if not isinstance(own, Mapping):
        raise SourceError(f"{where}: pretrained_cfg must be an object: fetch it again")
    size = options.image_size or _input_size(own, where)
    found = from_pretrained_cfg(own, where, size, options)
    trained = at_trained_size(config, state, TIMM, size, str(files[0]))
    model = build(state, trained, str(files[0]), size)
    labels, note = choose_labels(options.labels, _labels(folder, raw), config.num_classes, where)
    preprocess = with_options(found.spec, options, size, where)
    return Source(
        name=name,
        kind=SourceKind.CHECKPOINT,
        module=model,
        onnx_path=None,
        config=model.config,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=files_sha256(files),
        huggingface_config=published_config(model.config, labels),
        preprocessor_config=to_processor(preprocess),
        own_pipeline=OwnPipeline(
            Library.TIMM,
            files[0],
            raw["architecture"],
            stated=options.stated,
            states_kind=options.output_kind is not None,
            names_classes=False,
        )
        if len(files) == 1 and options.weights is None
        else None,
        decided=(*found.notes, *resize_notes(trained, model.config, TIMM.resampling)),
    )


def _other(
    files: tuple[Path, ...],
    state: Mapping[str, Tensor],
    raw: Mapping[str, Any],
    name: str,
    options: SourceOptions,
) -> Source:
    """A transformer that is no plain ViT."""
    where = str(files[0].with_name("config.json"))
    _refuse_arguments(raw, where)
    own, pool = raw.get("pretrained_cfg", raw), raw.get("global_pool")
    if not isinstance(own, Mapping):
        raise SourceError(f"{where}: pretrained_cfg must be an object: fetch it again")
    labels = _labels(files[0].parent, raw)
    stated = None if pool is None else str(pool)
    weights = Weights(files[0], state, raw["architecture"], own, stated, labels)
    known = timm_name(raw["architecture"])
    if known is None:
        return dataclasses.replace(from_timm_module(weights, options), name=name)
    return dataclasses.replace(from_timm_weights(weights, known, options), name=name)


def _input_size(raw: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Pixels (height, width) of a data config."""
    shape = raw.get("input_size", [3, 224, 224])
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(side) is int for side in shape):
        raise SourceError(f"{where}: input_size must be three integers, channels first, got {shape!r:.60}")
    return sides(shape[1:], "input_size", where)


def _pooled(config: VitConfig, raw: Mapping[str, Any], where: str) -> VitConfig:
    """With the pooling that the config names, where it is one of those that are known."""
    _refuse_arguments(raw, where)
    pool = raw.get("global_pool") or ("avg" if config.pooling is Pooling.MEAN else "token")
    if pool not in _POOLS or (pool == "token" and config.pooling is not Pooling.CLS):
        raise SourceError(
            f"{where}: global_pool {pool!r:.20} with these weights is not supported: "
            "pass the model itself as module:callable"
        )
    return dataclasses.replace(config, pooling=_POOLS[pool])


def _refuse_arguments(raw: Mapping[str, Any], where: str) -> None:
    """Refuse arguments of a model that may change what it computes."""
    arguments = raw.get("model_args") or {}
    unknown = sorted(set(arguments) - _HARMLESS) if isinstance(arguments, Mapping) else ["of another type"]
    if unknown:
        raise SourceError(
            f"{where}: model_args {', '.join(map(str, unknown[:4]))} may change what the model computes: "
            "pass the model itself as module:callable"
        )


def _labels(folder: Path, raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = raw.get("label_names")
    if names is None and (folder / "labels.json").is_file():
        names = read_any(folder / "labels.json")
    if not isinstance(names, list) or not all(isinstance(each, str) and each for each in names) or not names:
        return None
    told = raw.get("label_descriptions")
    if isinstance(told, Mapping) and all(isinstance(told.get(each), str) and told[each] for each in names):
        return tuple(told[each] for each in names)
    return tuple(names)
