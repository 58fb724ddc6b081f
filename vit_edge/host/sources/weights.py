"""Bare weights (`.safetensors`, `.pth` ...), for a named architecture or the one that their shapes show."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.archs import ARCHS, TORCHVISION_ARCHS, Arch, find_arch
from vit_edge.host.sources.checkpoints import Layout, build, detect_layout, file_sha256, resize_notes
from vit_edge.host.sources.checkpoints.containers import chosen_state
from vit_edge.host.sources.checkpoints.files import as_float32, pickled_module, read_checkpoint
from vit_edge.host.sources.checkpoints.known import detect_form
from vit_edge.host.sources.checkpoints.layouts.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from vit_edge.host.sources.checkpoints.layouts.swin import TORCHVISION_SWIN
from vit_edge.host.sources.families import FAMILIES
from vit_edge.host.sources.huggingface import from_folder, published_config
from vit_edge.host.sources.infer import at_trained_size, described, infer_arch
from vit_edge.host.sources.jsonfile import read_object
from vit_edge.host.sources.labels import choose_labels
from vit_edge.host.sources.open_clip_config import is_open_clip
from vit_edge.host.sources.open_clip_source import from_clip_file
from vit_edge.host.sources.own_code import from_module
from vit_edge.host.sources.preprocessing import rule_notes, to_processor, with_options
from vit_edge.host.sources.timm_data import Prepared, prepared
from vit_edge.host.sources.timm_module import from_timm_module, timm_has
from vit_edge.host.sources.timm_names import timm_name
from vit_edge.host.sources.timm_source import Weights, from_timm_weights
from vit_edge.host.sources.torchvision_data import is_torchvision, prepared_by_torchvision
from vit_edge.host.sources.torchvision_swin import from_torchvision_swin, is_swin
from vit_edge.host.sources.types import OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.host.vit import VitConfig


def from_weights(file: Path, arch_name: str | None, options: SourceOptions) -> Source:
    """Read a file of weights, or with `allow_pickle` of a whole pickled module.

    Args:
        file: under the keys of any layout.
        arch_name: the architecture, which also says how images are preprocessed; None: the one that the
            shapes show, and the options say how images are preprocessed.
        options: what the user states.

    Raises:
        SourceError: a file that cannot be read or does not hold this architecture.
        UsageError: an unknown architecture or tag.
    """
    arch = _plain_arch(arch_name)
    loaded = read_checkpoint(file, options.allow_pickle)
    module = pickled_module(loaded, options.weights, str(file))
    if module is not None:
        return from_module(module, str(file), SourceKind.CHECKPOINT, file_sha256(file), options)
    if not isinstance(loaded, Mapping):
        raise SourceError(
            f"{file} holds a {type(loaded).__name__}, not a state dict: save model.state_dict() instead"
        )
    if arch is None and _of_a_family(file.parent):
        return from_folder(file.parent, file.stem, options, (file,))
    state = as_float32(chosen_state(loaded, str(file), options.weights), (file,))
    other = _of_a_form(file, state, arch_name, arch, options)
    if other is not None:
        return other
    layout = detect_layout(state, str(file))
    if layout.has_folders and arch is None and (file.parent / "config.json").is_file():
        return from_folder(file.parent, file.stem, options, (file,))
    found = arch or infer_arch(state, layout, str(file))
    config = described(found, state, layout, str(file))
    trained = at_trained_size(config, state, layout, options.image_size, str(file))
    model = build(state, trained, str(file), options.image_size)
    config = model.config
    labels, note = choose_labels(options.labels, None, config.num_classes, str(file))
    known = _known(arch_name, file, config, options)
    preprocess = with_options(None if known is None else known.spec, options, config.image_size, str(file))
    assumed = rule_notes(preprocess, options) if known is None else known.notes
    notes = (*_decided(arch_name, found, trained), *assumed)
    return Source(
        name=arch_name or file.stem,
        kind=SourceKind.CHECKPOINT,
        module=model,
        onnx_path=None,
        config=config,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=file_sha256(file),
        huggingface_config=published_config(config, labels),
        preprocessor_config=to_processor(preprocess),
        own_pipeline=_own_pipeline(arch_name, file, layout, options),
        decided=(*notes, *resize_notes(trained, config, layout.resampling)),
    )


def _plain_arch(arch_name: str | None) -> Arch | None:
    """A plain ViT or DeiT of this name; None of another one that is read by name, and where none is named."""
    if arch_name is None or is_open_clip(arch_name) or is_swin(arch_name):
        return None
    base = arch_name.partition(".")[0]
    if base not in {**ARCHS, **TORCHVISION_ARCHS} and (timm_name(base) is not None or timm_has(base)):
        return None
    return find_arch(arch_name)


def _of_a_form(
    file: Path, state: Mapping[str, Tensor], arch_name: str | None, arch: Arch | None, options: SourceOptions
) -> Source | None:
    """A source that is no plain ViT, by its keys or its name; None of a plain one."""
    form = detect_form(state)
    if form in (OPEN_CLIP, OPEN_CLIP_TIMM):
        return from_clip_file(file, state, arch_name, options)
    if form is TORCHVISION_SWIN:
        return from_torchvision_swin(file, state, arch_name, options)
    if arch_name is not None and arch is None:
        if is_open_clip(arch_name) or is_swin(arch_name):
            raise SourceError(f"{file} does not have the keys of {arch_name}: check the architecture")
        known, weights = timm_name(arch_name), Weights(file, state, arch_name)
        if known is None:
            return from_timm_module(weights, options)
        return from_timm_weights(weights, known, options)
    if form is not None and arch is None:
        return _by_config(file, state, options)
    return None


def _by_config(file: Path, state: Mapping[str, Tensor], options: SourceOptions) -> Source:
    """The architecture of timm that a config beside the file names."""
    config = file.parent / "config.json"
    stated = read_object(config).get("architecture") if config.is_file() else None
    known = timm_name(stated) if isinstance(stated, str) else None
    if known is None:
        raise UsageError(
            f"{file} has timm's keys of a transformer that is no plain ViT, which do not say all of it: name "
            "it with --arch (such as vit_base_patch16_clip_224.openai, or as its config.json does)"
        )
    return from_timm_weights(Weights(file, state, known.name), known, options)


def _of_a_family(folder: Path) -> bool:
    """Whether a config beside the weights says what no layout of keys does."""
    config = folder / "config.json"
    return config.is_file() and read_object(config).get("model_type") in list(FAMILIES)


def _known(arch_name: str | None, file: Path, config: VitConfig, options: SourceOptions) -> Prepared | None:
    """How the library of the name preprocesses for a named architecture."""
    if arch_name is None:
        return None
    if is_torchvision(arch_name):
        return prepared_by_torchvision(arch_name, config.image_size, config.num_classes)
    return prepared(arch_name, file, config.image_size, config.num_classes, options)


def _own_pipeline(
    arch_name: str | None, file: Path, layout: Layout, options: SourceOptions
) -> OwnPipeline | None:
    """That of the library of the keys, where it would read the file as it was read here."""
    if (
        arch_name is None
        or options.weights is not None
        or layout.pipeline is not find_arch(arch_name).library
    ):
        return None
    return OwnPipeline(
        layout.pipeline,
        file,
        arch_name,
        stated=options.stated,
        states_kind=options.output_kind is not None,
        names_classes=False,
    )


def _decided(arch_name: str | None, found: Arch, trained: VitConfig) -> tuple[str, ...]:
    """What was read off the shapes."""
    notes = []
    if arch_name is None:
        notes.append(
            f"the architecture was read off the weights' shapes: {trained.depth} layers of width "
            f"{trained.dim}; {trained.heads} heads, exact GELU and an epsilon of {trained.layer_norm_eps:g} "
            "are those of the published models of these shapes"
        )
    elif trained.image_size != (found.size, found.size):
        height, width = trained.image_size
        notes.append(f"the positions are those of {height}x{width} pixels, not of the size in {arch_name}")
    return tuple(notes)
