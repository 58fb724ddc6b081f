"""torchvision's Swin and Swin V2, by name: `swin_t`, `swin_v2_b` and the others."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.checkpoints import file_sha256
from vit_edge.host.sources.checkpoints.layouts.swin import TORCHVISION_SWIN
from vit_edge.host.sources.checkpoints.swin import Windows, build_swin
from vit_edge.host.sources.configs import one_if_square
from vit_edge.host.sources.labels import choose_labels, label_maps
from vit_edge.host.sources.preprocessing import to_processor, with_options
from vit_edge.host.sources.torchvision_data import prepared_by_torchvision, preset_of
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind, SourceOptions

_SIDE = 8  # of the windows of every Swin V2 of torchvision


def is_swin(name: str) -> bool:
    """Whether an architecture's name is that of one of torchvision's Swins."""
    return re.fullmatch(r"swin_(?:v2_)?[tsb](?:\..*)?", name) is not None


def from_torchvision_swin(
    file: Path, state: Mapping[str, Tensor], arch_name: str | None, options: SourceOptions
) -> Source:
    """Read weights under torchvision's keys.

    Args:
        file: of the weights.
        state: what it holds.
        arch_name: torchvision's, with or without the name of its weights.
        options: what the user states.

    Raises:
        SourceError: weights that do not fit, or an image size that their windows do not divide.
        UsageError: no name, or another one's.
    """
    if arch_name is None or not is_swin(arch_name):
        raise UsageError(
            f"{file} has torchvision's keys of a Swin, which do not say what size its images have: name it "
            "with --arch, such as swin_t or swin_v2_t"
        )
    second = arch_name.startswith("swin_v2")
    if second != any(key.endswith("logit_scale") for key in state):
        raise SourceError(f"{file} is no {arch_name}: check whether it is a Swin or a Swin V2")
    _, preset = preset_of(arch_name)
    size = options.image_size or (preset.crop, preset.crop)
    model = build_swin(TORCHVISION_SWIN, state, Windows(size, _SIDE), str(file))
    outputs = model.config.outputs
    labels, note = choose_labels(options.labels, None, outputs, str(file))
    prepared = prepared_by_torchvision(arch_name, size, outputs)
    preprocess = with_options(prepared.spec, options, size, str(file))
    return Source(
        name=arch_name,
        kind=SourceKind.CHECKPOINT,
        module=model,
        onnx_path=None,
        config=None,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=file_sha256(file),
        huggingface_config={
            "model_type": "swinv2" if second else "swin",
            "image_size": one_if_square(size),
            **label_maps(labels),
        },
        preprocessor_config=to_processor(preprocess),
        own_pipeline=None
        if options.weights is not None
        else OwnPipeline(
            Library.TORCHVISION,
            file,
            arch_name,
            stated=options.stated,
            states_kind=options.output_kind is not None,
            names_classes=False,
        ),
        decided=prepared.notes,
        values=outputs,
    )
