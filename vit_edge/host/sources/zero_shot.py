"""A classifier of named classes from transformers' model of images and texts; the text tower runs once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit_edge.errors import SourceError, UsageError
from vit_edge.fields import shown
from vit_edge.host.sources.families import TOWERS, Family
from vit_edge.host.sources.labels import read_labels
from vit_edge.host.sources.named_classes import NamedClasses, distance, two_images
from vit_edge.host.sources.quiet import first_line, quiet_transformers
from vit_edge.host.sources.transformers_model import own_size
from vit_edge.host.sources.types import TEMPLATE, Prompts, SourceOptions
from vit_edge.spec import OutputKind

_SIGMOID = ("siglip",)  # each text is judged by itself
_AT_ONCE = 64  # texts


def prompts_of(options: SourceOptions) -> Prompts:
    """The class names and the sentence that they are put into.

    Raises:
        SourceError: a file that cannot be read, fewer than two names, or one that stands there twice.
        UsageError: a labels file as well.
    """
    if options.labels_text is None:
        raise ValueError("no labels_text")
    if options.labels is not None:
        raise UsageError("--labels and --labels-text both name the classes: leave one out")
    labels = read_labels(options.labels_text)
    twice = next((name for index, name in enumerate(labels) if name in labels[:index]), None)
    if twice is not None:
        raise SourceError(f"{options.labels_text} names {twice!r} twice: name each class once")
    if len(labels) < 2:
        raise SourceError(f"{options.labels_text} names one class: name at least two to choose between")
    return Prompts(labels, options.template or TEMPLATE)


def tower_name(raw: Mapping[str, Any], model_type: str, family: Family, where: str) -> str:
    """The class of transformers that has both towers.

    Raises:
        SourceError: a family without a text tower, or a config of another class.
    """
    made = TOWERS.get(model_type)
    if made is None:
        raise SourceError(
            f"{where} is of {family.name}, whose texts are not read: --labels-text goes with a folder of "
            f"{', '.join(TOWERS.values())}"
        )
    named = raw.get("architectures") or [made]
    if named != [made]:
        raise SourceError(
            f"{where}: architectures is {shown(named)}, which has no text tower: --labels-text goes with a "
            f"folder of {made}"
        )
    return made


def meaning_of(model_type: str) -> OutputKind:
    """What the logits are, as transformers' pipeline takes them: for one text of all, or each by itself."""
    return OutputKind.MULTI_LABEL if model_type in _SIGMOID else OutputKind.SINGLE_LABEL


class _Projected(nn.Module):
    """The image tower of transformers' model, with its projection where it has one: embeddings (N, D)."""

    def __init__(self, towers: Any) -> None:
        super().__init__()
        self.vision = towers.vision_model
        self.projection = getattr(towers, "visual_projection", None)

    def forward(self, pixel_values: Tensor, **more: bool) -> Tensor:
        """Of any length."""
        pooled: Tensor = self.vision(pixel_values=pixel_values, **more).pooler_output
        return pooled if self.projection is None else self.projection(pooled)


class ZeroShot(NamedClasses):
    """Of transformers' towers and normalised embeddings of texts (C, D)."""

    def __init__(self, towers: Any, texts: Tensor) -> None:
        bias = getattr(towers, "logit_bias", None)
        super().__init__(_Projected(towers), texts, float(towers.logit_scale.exp()), bias)
        self.config = towers.config


def zero_shot(transformers: Any, towers: Any, folder: Path, prompts: Prompts) -> ZeroShot:
    """The classifier of these texts, checked against the towers' own logits.

    Args:
        transformers: the library.
        towers: its model of images and texts.
        folder: with the tokenizer.
        prompts: the classes.

    Raises:
        SourceError: a tokenizer or text that transformers refuses, or logits that differ from its own.
    """
    with quiet_transformers():
        try:
            tokens = _tokens(transformers, towers, folder, prompts)
        except Exception as error:  # whatever a tokenizer's files lead it to
            raise SourceError(
                f"transformers cannot make tokens with {folder} ({first_line(error)}): the texts need the "
                "tokenizer that was saved with the model"
            ) from error
        try:
            made, expected, got = _checked(towers, tokens)
        except Exception as error:
            raise SourceError(
                f"{folder}: {type(towers).__name__} cannot read the texts ({first_line(error)}): shorten them"
            ) from error
    apart = distance(expected, got)
    if apart is not None:
        raise SourceError(
            f"{folder}: as a classifier it gives other logits than {type(towers).__name__} (by {apart:.1e}); "
            "please report this model"
        )
    return made


def _tokens(transformers: Any, towers: Any, folder: Path, prompts: Prompts) -> list[Any]:
    """As ZeroShotImageClassificationPipeline makes them, in parts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    padding: dict[str, Any] = {"padding": True}
    if towers.config.model_type in _SIGMOID:
        padding = {"padding": "max_length", "max_length": 64, "truncation": True}
    texts = prompts.texts
    parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
    return [tokenizer(list(part), return_tensors="pt", **padding) for part in parts]


def _checked(towers: Any, tokens: list[Any]) -> tuple[ZeroShot, Tensor, Tensor]:
    """The classifier, and for two images the towers' logits and its own."""
    height, width = own_size(towers.config) or (0, 0)
    images = two_images((height, width))
    with torch.no_grad():
        answers = [towers(pixel_values=images, **part) for part in tokens]
        texts = F.normalize(torch.cat([each.text_embeds for each in answers]), dim=1)
        made = ZeroShot(towers, texts).eval()
        return made, torch.cat([each.logits_per_image for each in answers], 1), made(images)
