"""A classifier of named classes from a CLIP of open_clip: its text tower runs once, by open_clip itself."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.configs import with_labels
from vit_edge.host.sources.named_classes import NamedClasses, distance, two_images
from vit_edge.host.sources.open_clip_library import (
    model_of,
    open_clip_here,
    open_clips_own,
    text_embeddings,
)
from vit_edge.host.sources.types import Source, SourceOptions
from vit_edge.host.sources.zero_shot import prompts_of
from vit_edge.spec import OutputKind


def with_texts(source: Source, options: SourceOptions, state: Mapping[str, Tensor]) -> Source:
    """The classifier of the stated classes, checked against open_clip's own logits.

    Args:
        source: the image tower, its vectors of any length.
        options: what the user states, the names of the classes among it.
        state: all weights of the file, under open_clip's keys.

    Raises:
        SourceError: open_clip cannot be imported, cannot load the model or read the texts, or gives other
            logits; or nothing says what it is to load.
        UsageError: a labels file as well.
    """
    prompts, own = prompts_of(options), source.own_pipeline
    if own is None or source.module is None:
        raise SourceError(
            f"{source.name}: the texts are read by open_clip, which knows a whole folder, or a file by its "
            "name: leave --weights out, or pass the folder as it was pushed"
        )
    size = source.preprocess.height, source.preprocess.width
    stated = None if own.stated.image_size is None else size
    model = open_clips_own(own, stated)[0] if stated or not own.arch else model_of(own, state)
    texts, bias = text_embeddings(model, own, prompts), getattr(model, "logit_bias", None)
    scale = float(model.logit_scale.detach().exp())
    made = NamedClasses(source.module, texts, scale, bias).eval()
    images = two_images(size)
    with torch.no_grad():
        expected = scale * model.encode_image(images, normalize=True) @ texts.T
        apart = distance(expected if bias is None else expected + bias, made(images))
    if apart is not None:
        raise SourceError(
            f"{source.name}: as a classifier it gives other logits than open_clip (by {apart:.1e}); please "
            "report this model"
        )
    return dataclasses.replace(
        source,
        module=made,
        labels=prompts.labels,
        huggingface_config=with_labels(source.huggingface_config, prompts.labels, size),
        own_pipeline=dataclasses.replace(own, prompts=prompts, names_classes=True),
        decided=(
            f"its classes are the texts {prompts.template!r} of {len(prompts.labels)} names, read by "
            f"open_clip {open_clip_here().__version__}",
            *source.decided[1:],  # the first says that it has no classifier
        ),
        output=OutputKind.SINGLE_LABEL if bias is None else OutputKind.MULTI_LABEL,
        values=len(prompts.labels),
    )
