"""CLIP image towers under OpenAI's keys: folders as open_clip pushes them, and bare files by name."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.checkpoints import files_sha256, read_weights
from vit_edge.host.sources.checkpoints.form import Told, build_form, form_notes, parts_of
from vit_edge.host.sources.checkpoints.layouts.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from vit_edge.host.sources.configs import one_if_square
from vit_edge.host.sources.jsonfile import read_object
from vit_edge.host.sources.open_clip_config import (
    prepared_by_config,
    timm_trunk,
    told_by_config,
    told_by_name,
    told_of_trunk,
    tower_named,
)
from vit_edge.host.sources.open_clip_texts import with_texts
from vit_edge.host.sources.preprocessing import size_notes, to_processor, with_options
from vit_edge.host.sources.timm_names import TimmName
from vit_edge.host.sources.types import Apart, Library, OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.host.varied.config import Nonlinearity, VariedConfig
from vit_edge.spec import OutputKind, PreprocessSpec

CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth")
_ACTIVATIONS = {
    Nonlinearity.GELU: "gelu",
    Nonlinearity.GELU_TANH: "gelu_pytorch_tanh",
    Nonlinearity.QUICK_GELU: "quick_gelu",
}
_WORDS = (
    "it has no classifier: its embedding is the projection into the space of images and texts (encode_image "
    "of open_clip), brought to length 1; its text tower is left out"
)


def from_open_clip_folder(folder: Path, name: str, options: SourceOptions) -> Source:
    """Read a folder with open_clip_config.json and open_clip's weights; its image tower is taken.

    Args:
        folder: as open_clip pushes it to the hub.
        name: of the source.
        options: what the user states.

    Raises:
        SourceError: a missing, malformed or unsupported part; the message names the file and key.
    """
    file = next((folder / each for each in _WEIGHTS if (folder / each).is_file()), None)
    if file is None:
        raise SourceError(f"{folder} has none of {', '.join(_WEIGHTS)}: fetch the whole folder")
    state = read_weights((file,), options.allow_pickle, options.weights)
    return _from_config(folder, name, file, state, options)


def from_clip_file(
    file: Path, state: Mapping[str, Tensor], arch_name: str | None, options: SourceOptions
) -> Source:
    """A bare file of a CLIP: its name says what the shapes do not, or a config of open_clip beside it.

    Args:
        file: of the weights.
        state: what it holds.
        arch_name: open_clip's name (`ViT-B-32-quickgelu`) or OpenAI's (`ViT-B/32`).
        options: what the user states.

    Raises:
        SourceError: weights that are not of this name.
        UsageError: no name and no config.
    """
    if arch_name is None or OPEN_CLIP_TIMM.fits(state):
        if (file.parent / CONFIG).is_file():
            return _from_config(file.parent, file.stem, file, state, options)
        if arch_name is not None:
            raise UsageError(
                f"{file} is a CLIP whose image tower is timm's: leave --arch out, and put its "
                "open_clip_config.json beside it"
            )
        raise UsageError(
            f"{file} is a CLIP, whose weights show neither its heads nor its activation: name it with "
            "--arch, as OpenAI does (ViT-B/32: QuickGELU) or open_clip (ViT-B-32: GELU)"
        )
    named = tower_named(arch_name)
    told = told_by_name(named)
    shape = tuple(state["visual.conv1.weight"].shape)
    if shape != (named.width, 3, named.patch, named.patch):
        raise SourceError(
            f"{file} has a patch embedding of shape {shape}, which is not that of {arch_name}: "
            "check the architecture"
        )
    model, trained = build_form(OPEN_CLIP, state, _lengths(told, options), str(file), options.image_size)
    spec = prepared_by_config({}, trained.image_size, arch_name)
    told_of = f"images are prepared as OpenAI's CLIP does it, as nothing beside {file.name} says how"
    made = _source(model, trained, spec, options, str(file))
    whole = dataclasses.replace(
        made,
        name=arch_name.replace("/", "-"),
        sha256=files_sha256((file,)),
        own_pipeline=_pipeline(file, options, named.open_clips_name),
        decided=(*made.decided, told_of),
    )
    return whole if options.labels_text is None else with_texts(whole, options, state)


def _from_config(
    folder: Path, name: str, file: Path, state: Mapping[str, Tensor], options: SourceOptions
) -> Source:
    where = str(folder / CONFIG)
    raw = read_object(folder / CONFIG)
    config, recipe = raw.get("model_cfg"), raw.get("preprocess_cfg", {})
    if not isinstance(config, Mapping) or not isinstance(recipe, Mapping):
        raise SourceError(f"{where}: model_cfg and preprocess_cfg must be objects: fetch it again")
    trunk = timm_trunk(config, where)
    form = OPEN_CLIP if trunk is None else OPEN_CLIP_TIMM
    if not form.fits(state):
        raise SourceError(f"{file} does not have the keys that {where} speaks of: fetch the whole folder")
    if trunk is not None and parts_of(form, state, str(file)) != trunk.parts:
        raise SourceError(f"{file} does not have the parts of {trunk.name}, which {where} says it has")
    told = told_by_config(config, where) if trunk is None else told_of_trunk(config, trunk)
    told = _lengths(told, options)
    # open_clip, too, resamples positions for the size in the config
    model, trained = build_form(form, state, told, str(file), options.image_size or told.image_size)
    spec = prepared_by_config(recipe, told.image_size or trained.image_size, where)
    made = _source(model, trained, spec, options, where, trunk)
    known = file.name in _WEIGHTS
    whole = dataclasses.replace(
        made,
        name=name,
        sha256=files_sha256((file,)),
        own_pipeline=_pipeline(folder, options, "") if known else None,
    )
    return whole if options.labels_text is None else with_texts(whole, options, state)


def _lengths(told: Told, options: SourceOptions) -> Told:
    """Vectors as long as they are where texts make a classifier of them, which normalises them itself."""
    return told if options.labels_text is None else dataclasses.replace(told, unit=False)


def _pipeline(path: Path, options: SourceOptions, arch: str) -> OwnPipeline | None:
    if options.weights is not None:
        return None
    return OwnPipeline(Library.OPEN_CLIP, path, arch, stated=options.stated, names_classes=False)


def _source(
    model: Any,
    trained: VariedConfig,
    spec: PreprocessSpec,
    options: SourceOptions,
    where: str,
    trunk: TimmName | None = None,
) -> Source:
    """All of a source but where it comes from."""
    config: VariedConfig = model.config
    preprocess = with_options(spec, options, config.image_size, where)
    return Source(
        name="",
        kind=SourceKind.CHECKPOINT,
        module=model,
        onnx_path=None,
        config=None,
        labels=(),
        labels_note="",
        preprocess=preprocess,
        sha256="",
        huggingface_config=_published(config) if trunk is None else _published_trunk(config, trunk),
        preprocessor_config=to_processor(preprocess),
        decided=(
            _WORDS,
            *size_notes(spec, preprocess, options),
            *form_notes(trained, config, OPEN_CLIP if trunk is None else OPEN_CLIP_TIMM),
        ),
        output=OutputKind.UNIT_EMBEDDING,
        values=config.outputs,
        apart=Apart("CLIP" if trunk is None else f"{trunk.name} (timm)", ""),
    )


def _published(config: VariedConfig) -> dict[str, Any]:
    """A `config.json` in Hugging Face's words."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "projection_dim": config.outputs,
        "hidden_act": _ACTIVATIONS[config.nonlinearity],
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": one_if_square(config.image_size),
        "patch_size": one_if_square(config.patch_size),
    }


def _published_trunk(config: VariedConfig, trunk: TimmName) -> dict[str, Any]:
    """The same of a tower of timm's."""
    size = one_if_square(config.image_size)
    return {"model_type": "timm_wrapper", "architecture": trunk.name, "image_size": size}
