"""timm's transformers that are no plain ViT, by name: CLIP, SigLIP, DINOv2 and v3, EVA-02, registers, Swin.

The weights of names in the table of `timm_names.py` are read without timm; of others through timm's own
module, where timm is installed.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints import file_sha256
from vit_edge.host.sources.checkpoints.form import build_form, form_notes, parts_of
from vit_edge.host.sources.checkpoints.layouts.swin import TIMM_SWIN
from vit_edge.host.sources.checkpoints.layouts.timm_forms import TIMM_VARIED
from vit_edge.host.sources.checkpoints.swin import build_swin
from vit_edge.host.sources.configs import one_if_square
from vit_edge.host.sources.labels import choose_labels, label_maps
from vit_edge.host.sources.preprocessing import size_notes, to_processor, with_options
from vit_edge.host.sources.timm_data import Prepared, from_pretrained_cfg, own_config
from vit_edge.host.sources.timm_names import TIMM_POOLS, TimmName, cfg_of, told_of, windows_of
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.host.varied.config import Pool
from vit_edge.spec import OutputKind

_SHARED = (512, 640, 768, 1024, 1280)  # numbers of CLIP's space of images and texts


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A file of timm's weights, and what is said beside it."""

    file: Path
    state: Mapping[str, Tensor]
    arch: str  # with its tag where that is stated
    cfg: Mapping[str, Any] | None = None  # `pretrained_cfg`, in place of the tag's
    pool: str | None = None  # timm's `global_pool`, in place of the architecture's
    labels: tuple[str, ...] | None = None

    @property
    def headless(self) -> bool:
        """Whether there is no classifier."""
        return not any(key.startswith("head.") for key in self.state)


def from_timm_weights(weights: Weights, known: TimmName, options: SourceOptions) -> Source:
    """Read weights of an architecture in the table.

    Args:
        weights: under timm's keys.
        known: what its name says.
        options: what the user states.

    Raises:
        SourceError: weights that do not fit, or a size that the model does not take.
        UsageError: an unknown tag.
    """
    where = str(weights.file)
    if known.window is not None:
        if options.image_size not in (None, known.size):
            raise SourceError(
                f"{where}: a Swin's windows are those of {known.size[0]}x{known.size[1]} pixels: leave "
                "--image-size out"
            )
        module: nn.Module = build_swin(TIMM_SWIN, weights.state, windows_of(known), where)
        size, notes = known.size, tuple[str, ...]()
    else:
        if parts_of(TIMM_VARIED, weights.state, where) != known.parts:
            raise SourceError(
                f"{where} does not have the parts and the width of {known.name}: check the architecture"
            )
        told = told_of(known)
        if weights.pool is not None:
            told = dataclasses.replace(told, pool=_pool(weights, where))
        module, trained = build_form(TIMM_VARIED, weights.state, told, where, options.image_size)
        size = module.config.image_size
        notes = form_notes(trained, module.config, TIMM_VARIED)
    return source_of(weights, known, module, size, options, notes)


def _pool(weights: Weights, where: str) -> Pool:
    if weights.pool not in TIMM_POOLS:
        raise SourceError(
            f"{where}: global_pool {weights.pool!r:.20} is not one of {', '.join(TIMM_POOLS)}: pass the "
            "model itself as module:callable"
        )
    return TIMM_POOLS[weights.pool]


def source_of(
    weights: Weights,
    known: TimmName,
    module: nn.Module,
    size: tuple[int, int],
    options: SourceOptions,
    notes: tuple[str, ...],
) -> Source:
    """All of a source of timm's.

    Args:
        weights: that were read.
        known: their name.
        module: with them, in eval mode.
        size: pixels (height, width) that it sees.
        options: what the user states.
        notes: what was assumed so far.

    Raises:
        SourceError: preprocessing that has no recipe here.
        UsageError: an unknown tag.
    """
    tag = weights.arch.partition(".")[2]
    with torch.inference_mode():
        numbers = module(torch.zeros(1, 3, *size)).shape[1]
    kind, said = _meaning(weights, known, numbers, tag, options)
    prepared = _prepared(weights, known, size, tag, options)
    preprocess = with_options(prepared.spec, options, size, str(weights.file))
    labels, note = tuple[str, ...](), ""
    if kind is OutputKind.SINGLE_LABEL:
        labels, note = choose_labels(options.labels, weights.labels, numbers, str(weights.file))
    return Source(
        name=weights.arch,
        kind=SourceKind.CHECKPOINT,
        module=module,
        onnx_path=None,
        config=None,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=file_sha256(weights.file),
        huggingface_config={
            "model_type": "timm_wrapper",
            "architecture": known.name,
            "image_size": one_if_square(size),
            **(label_maps(labels) if labels else {}),
        },
        preprocessor_config=to_processor(preprocess),
        own_pipeline=_pipeline(weights, options),
        decided=(*said, *prepared.notes, *size_notes(prepared.spec, preprocess, options), *notes),
        output=kind,
        values=numbers,
    )


def _meaning(
    weights: Weights, known: TimmName, numbers: int, tag: str, options: SourceOptions
) -> tuple[OutputKind, tuple[str, ...]]:
    """Classes; or an embedding, of weights without a head, or whose head is CLIP's projection."""
    if weights.headless:
        return OutputKind.EMBEDDING, ("it has no classifier: its embedding is the vector that timm pools",)
    published = {cfg["classes"] for name, cfg in known.tags.items() if tag in ("", name)}
    projects = "clip" in known.name and numbers in _SHARED and numbers in published
    if projects and options.output_kind is None and options.labels is None and weights.labels is None:
        return OutputKind.EMBEDDING, (
            f"its head of {numbers} numbers is the projection of CLIP, so it gives embeddings: say "
            f"--output-kind {OutputKind.SINGLE_LABEL.value} if they are classes",
        )
    return OutputKind.SINGLE_LABEL, ()


def _prepared(
    weights: Weights, known: TimmName, size: tuple[int, int], tag: str, options: SourceOptions
) -> Prepared:
    """By the data config beside the file, else by that of the tag."""
    own = weights.cfg if weights.cfg is not None else own_config(weights.file, known.name)
    if own is not None:
        return from_pretrained_cfg(own, str(weights.file.with_name("config.json")), size, options)
    used, cfg = cfg_of(known, tag)
    made = from_pretrained_cfg(cfg, weights.arch, size, options)
    if tag:
        return made
    others = [each for each in known.tags if each != used]
    told = f" (others: {', '.join(others[:4])})" if others else ""
    note = f"no timm tag is named, so images are preprocessed as for timm's default, {used}{told}"
    return Prepared(made.spec, (*made.notes, note))


def _pipeline(weights: Weights, options: SourceOptions) -> OwnPipeline | None:
    if options.weights is not None:
        return None
    return OwnPipeline(
        Library.TIMM,
        weights.file,
        weights.arch,
        stated=options.stated,
        states_kind=options.output_kind is not None,
        names_classes=False,
        headless=weights.headless,
    )
