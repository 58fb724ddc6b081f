"""Bare weights (`.safetensors`, `.pth` ...) whose architecture the user names."""

from pathlib import Path

from vit_edge.errors import SourceError
from vit_edge.host.sources.archs import config_of, find_arch
from vit_edge.host.sources.checkpoints import Layout, build, detect_layout, file_sha256, read_state_dict
from vit_edge.host.sources.huggingface import published_config
from vit_edge.host.sources.labels import choose_labels
from vit_edge.host.sources.preprocessing import to_processor, with_options
from vit_edge.host.sources.types import Source, SourceKind, SourceOptions


def from_weights(file: Path, arch_name: str, options: SourceOptions) -> Source:
    """Read weights under timm's keys (also our own) for a named architecture.

    Raises:
        SourceError: a file that cannot be read or does not hold this architecture.
        UsageError: an unknown architecture.
    """
    arch = find_arch(arch_name)
    state = read_state_dict(file, options.allow_pickle)
    if detect_layout(state, str(file)) is not Layout.TIMM:
        raise SourceError(
            f"{file} has Hugging Face's keys: pass its folder, with config.json, instead of the file"
        )
    model = build(state, config_of(arch, state, str(file)), str(file), options.image_size)
    config = model.config
    labels, note = choose_labels(options.labels, None, config.num_classes, str(file))
    preprocess = with_options(arch.preprocess(), options, config.image_size, str(file))
    return Source(
        name=arch_name,
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
    )
