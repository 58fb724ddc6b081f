"""A classifier of named classes from a model of images and texts (CLIP, SigLIP); the text tower runs once.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021),
section 3.1.2; Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).
"""

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
from vit_edge.host.sources.quiet import first_line, quiet_transformers
from vit_edge.host.sources.transformers_model import own_size
from vit_edge.host.sources.types import TEMPLATE, Prompts, SourceOptions
from vit_edge.spec import OutputKind

_SIGMOID = ("siglip",)  # each text is judged by itself
_AT_ONCE = 64  # texts
_TOLERANCE = 1e-4  # share of the largest logit, of the one normalization in place of another
_EPSILON = 1e-12  # of a mean square that is about 1


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
            f"{where} is of {family.name}, which knows no texts: --labels-text goes with a folder of "
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


class ZeroShot(nn.Module):
    """The image tower with the texts as a linear classifier: pixel_values (N, 3, H, W) to logits (N, C).

    The logits are `scale x / |x| . t + bias` for an embedding x and the normalised embeddings t of the texts.
    The normalization is written as a LayerNormalization of (x, -x), whose mean is zero and whose variance is
    |x|^2 / D: an operator that is quantized around as any other.

    Args:
        towers: transformers' model.
        texts: float32 (C, D), each of length 1.
    """

    def __init__(self, towers: Any, texts: Tensor) -> None:
        super().__init__()
        self.config = towers.config
        self.vision = towers.vision_model
        self.projection = getattr(towers, "visual_projection", None)
        classes, dim = texts.shape
        scale = float(towers.logit_scale.exp()) / dim**0.5 / 2
        bias = getattr(towers, "logit_bias", None)
        self.classifier = nn.Linear(2 * dim, classes, bias=bias is not None)
        self.classifier.weight = nn.Parameter(torch.cat([texts, -texts], 1) * scale)
        if bias is not None:
            self.classifier.bias = nn.Parameter(bias.detach().reshape(1).repeat(classes))

    def forward(self, pixel_values: Tensor, **more: bool) -> Tensor:
        """Logits (N, C)."""
        pooled = self.vision(pixel_values=pixel_values, **more).pooler_output
        embedded = pooled if self.projection is None else self.projection(pooled)
        both = torch.cat([embedded, embedded * -1.0], 1)  # the contract knows Mul, not Neg
        logits: Tensor = self.classifier(F.layer_norm(both, both.shape[1:], eps=_EPSILON))
        return logits


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
    apart = float((expected - got).abs().max())
    if not apart <= _TOLERANCE * max(1.0, float(expected.abs().max())):
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
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = [towers(pixel_values=images, **part) for part in tokens]
        texts = F.normalize(torch.cat([each.text_embeds for each in answers]), dim=1)
        made = ZeroShot(towers, texts).eval()
        return made, torch.cat([each.logits_per_image for each in answers], 1), made(images)
