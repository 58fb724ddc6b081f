"""A Hugging Face model folder: config.json, preprocessor_config.json and the weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.fields import shown
from vit_edge.host.sources.checkpoints import build, files_sha256, read_weights, resize_notes
from vit_edge.host.sources.checkpoints.layouts.huggingface import HUGGINGFACE
from vit_edge.host.sources.checkpoints.shards import weight_files
from vit_edge.host.sources.configs import one_if_square, refuse_other_channels, with_labels
from vit_edge.host.sources.folder_processor import FolderProcessor
from vit_edge.host.sources.jsonfile import flag, integer, number, read_object, sides, text
from vit_edge.host.sources.labels import choose_labels, from_id2label, label_maps
from vit_edge.host.sources.preprocessing import (
    with_options,
)
from vit_edge.host.sources.towers import tower_of
from vit_edge.host.sources.transformers_folder import from_transformers
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.host.vit import Activation, Distillation, VitConfig

_ARCHITECTURES = {
    "ViTForImageClassification": Distillation.NONE,
    "DeiTForImageClassification": Distillation.TOKEN,
    "DeiTForImageClassificationWithTeacher": Distillation.HEAD,
}
_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def from_folder(
    folder: Path, name: str, options: SourceOptions, files: tuple[Path, ...] | None = None
) -> Source:
    """Read a folder that `save_pretrained` wrote for a classifier or a model that gives embeddings.

    ViT and DeiT are read without transformers, the other families of `families.py` with it.

    Args:
        folder: with config.json.
        name: of the source, without any path.
        options: what the user states.
        files: the weights, where they are not those that the folder is known for.

    Raises:
        SourceError: a missing, malformed or unsupported part; the message names the file and key.
    """
    raw = read_object(folder / "config.json")
    files = files or weight_files(folder)
    if not files:
        raise SourceError(f"{folder} has no model.safetensors: pass a folder that save_pretrained wrote")
    if not _is_plain(raw) or (tower_of(raw) is not None and options.labels_text is None):
        return from_transformers(folder, raw, name, files, options)
    state = read_weights(files, options.allow_pickle, options.weights)
    trained = vit_config(raw, state, str(folder / "config.json"))
    model = build(state, trained, str(files[0]), options.image_size)
    named = raw.get("id2label")
    stated = None if named is None else from_id2label(named, str(folder / "config.json"))
    labels, note = choose_labels(options.labels, stated, trained.num_classes, str(folder))
    processor = FolderProcessor.of(folder, str(raw.get("model_type", "vit")))
    preprocess = with_options(processor.spec, options, model.config.image_size, str(folder))
    resized = resize_notes(trained, model.config, HUGGINGFACE.resampling)
    return Source(
        name=name,
        kind=SourceKind.HUGGINGFACE,
        module=model,
        onnx_path=None,
        config=model.config,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=files_sha256(files),
        huggingface_config=with_labels(raw, labels, model.config.image_size),
        preprocessor_config=processor.published(preprocess, options),
        own_pipeline=OwnPipeline(
            Library.TRANSFORMERS,
            folder,
            stated=options.stated,
            no_recipe=processor.config is None,
            states_kind=options.output_kind is not None,
            names_classes=options.labels is None,
        ),
        decided=(*processor.decided(preprocess, options), *resized),
    )


def _is_plain(raw: Mapping[str, Any]) -> bool:
    """Whether a config is of a ViT or DeiT."""
    named = raw.get("architectures")
    known = isinstance(named, list) and len(named) == 1 and named[0] in list(_ARCHITECTURES)
    return known or raw.get("model_type") in ("vit", "deit")


def vit_config(raw: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> VitConfig:
    """The hyper-parameters in a `config.json`; what is absent has transformers' default.

    Args:
        raw: the parsed file.
        state: the weights, for the number of classes.
        where: the file's name for messages.

    Raises:
        SourceError: another architecture, an unsupported activation, or a missing or malformed value.
    """
    refuse_other_channels(raw, where)
    activation = text(raw, "hidden_act", where, "gelu")
    if activation not in _ACTIVATIONS:
        raise SourceError(f"{where}: hidden_act {shown(activation)} is not one of {', '.join(_ACTIVATIONS)}")
    try:
        return VitConfig(
            image_size=sides(raw.get("image_size", 224), "image_size", where),
            patch_size=sides(raw.get("patch_size", 16), "patch_size", where),
            dim=integer(raw, "hidden_size", where),
            depth=integer(raw, "num_hidden_layers", where),
            heads=integer(raw, "num_attention_heads", where),
            mlp_dim=integer(raw, "intermediate_size", where),
            num_classes=_classes(state, raw),
            distillation=_distillation(raw, state, where),
            activation=_ACTIVATIONS[activation],
            qkv_bias=flag(raw, "qkv_bias", where, True),
            layer_norm_eps=number(raw, "layer_norm_eps", where, 1e-12),
        )
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None


def published_config(config: VitConfig, labels: tuple[str, ...]) -> dict[str, Any]:
    """A `config.json` in Hugging Face's words for a model that did not come with one."""
    distilled = config.distillation is not Distillation.NONE
    activations = {kind: name for name, kind in reversed(_ACTIVATIONS.items())}
    architecture = next(name for name, kind in _ARCHITECTURES.items() if kind is config.distillation)
    return {
        "architectures": [architecture],
        "model_type": "deit" if distilled else "vit",
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": activations[config.activation],
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": one_if_square(config.image_size),
        "patch_size": one_if_square(config.patch_size),
        "num_channels": config.channels,
        "qkv_bias": config.qkv_bias,
        **label_maps(labels),
    }


def cached_folder(hub_id: str) -> Path:
    """The folder of a Hugging Face id in the local cache; the network is never used.

    Raises:
        SourceError: no huggingface_hub, or not in its cache.
    """
    mend = f"download it first (hf download {hub_id}) or pass a local folder"
    if not _HUB_ID.fullmatch(hub_id):
        raise SourceError(f"{hub_id} is no Hugging Face id of the form owner/name: {mend}")
    try:
        import huggingface_hub
    except ImportError:
        raise SourceError(f"{hub_id} needs huggingface_hub to be found in its cache: {mend}") from None
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, local_files_only=True))
    # Whatever goes wrong there, a missing cache, a broken link, a bad id, means the same here.
    except Exception:
        raise SourceError(f"{hub_id} is no local path and not in the Hugging Face cache: {mend}") from None


def _distillation(raw: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Distillation:
    named = raw.get("architectures") or []
    if not isinstance(named, list) or len(named) > 1 or not set(map(str, named)) <= set(_ARCHITECTURES):
        raise SourceError(f"{where}: architectures is {shown(named)}, not one of {', '.join(_ARCHITECTURES)}")
    if named:
        return _ARCHITECTURES[str(named[0])]
    if raw.get("model_type") != "deit":
        return Distillation.NONE
    return Distillation.HEAD if "distillation_classifier.weight" in state else Distillation.TOKEN


def _classes(state: Mapping[str, Tensor], raw: Mapping[str, Any]) -> int:
    for key in ("classifier.weight", "cls_classifier.weight"):
        if key in state:
            return int(state[key].shape[0])
    # A backbone: any number will do, since the missing classifier is about to be refused by its key.
    named = raw.get("id2label")
    return max(1, len(named) if isinstance(named, dict) else 1)
