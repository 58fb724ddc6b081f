"""The user's own code: `module:callable` returns the model."""

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.huggingface import published_config
from vit_edge.host.sources.labels import choose_labels, label_maps
from vit_edge.host.sources.preprocessing import rule_notes, to_processor, with_options
from vit_edge.host.sources.transformers_model import own_size
from vit_edge.host.sources.types import Source, SourceKind, SourceOptions
from vit_edge.host.vit import VisionTransformer

PATTERN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def from_callable(text: str, options: SourceOptions) -> Source:
    """Import `module` from the current directory (or the environment), call `callable()`, keep the nn.Module.

    Raises:
        SourceError: the module or callable fails, is absent, or gives no image classifier; or the options do
            not state the preprocessing.
        UsageError: `trust_code` is not set.
    """
    if not options.trust_code:
        raise UsageError(
            f"{text} runs the code of that module: set trust_code if it is yours or you trust its author"
        )
    module = _call(text)
    return from_module(module, text, SourceKind.CALLABLE, _state_sha256(module), options)


def from_module(
    module: nn.Module, text: str, kind: SourceKind, sha256: str, options: SourceOptions
) -> Source:
    """A module as it is, however it came here.

    Args:
        module: from images to logits, or to an object with `logits` as transformers' models give it.
        text: the source as the user named it.
        kind: where the module came from.
        sha256: of its weights.
        options: what the user states.

    Raises:
        SourceError: no image classifier, or the options do not state the preprocessing.
    """
    size = options.image_size or own_size(getattr(module, "config", None))
    module = _Logits(module.eval().cpu().float()).eval()
    if isinstance(module.model, VisionTransformer):
        module = module.model
    if size is None:
        raise SourceError(f"{text} does not say what size its images have: pass --image-size")
    preprocess = with_options(None, options, size, text)
    classes = _classes(module, size, text)
    labels, note = choose_labels(options.labels, None, classes, text)
    config = module.config if isinstance(module, VisionTransformer) else None
    hf_config: dict[str, Any] = {"model_type": "vit", "image_size": list(size), **label_maps(labels)}
    return Source(
        name=Path(text).stem if kind is SourceKind.CHECKPOINT else text.partition(":")[2],
        kind=kind,
        module=module,
        onnx_path=None,
        config=config,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=sha256,
        huggingface_config=published_config(config, labels) if config else hf_config,
        preprocessor_config=to_processor(preprocess),
        values=classes,
        decided=rule_notes(preprocess, options),
    )


class _Logits(nn.Module):
    """A classifier that may give its logits in an object."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> object:
        """Logits (N, C) of pixel_values (N, 3, H, W)."""
        made = self.model(pixel_values)
        return made if isinstance(made, torch.Tensor) else getattr(made, "logits", made)


def _call(text: str) -> nn.Module:
    module_name, _, attribute = text.partition(":")
    with current_directory_importable():
        # Someone else's code may raise anything; the sentence says where, and --debug keeps the chain.
        try:
            factory: Callable[[], object] = getattr(importlib.import_module(module_name), attribute)
            made = factory()
        except Exception as error:
            raise SourceError(f"{text} failed with {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise SourceError(f"{text} returned a {type(made).__name__}: it must return a torch.nn.Module")
    return made


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Modules of the current directory win while this lasts."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _classes(module: nn.Module, size: tuple[int, int], text: str) -> int:
    try:
        with torch.inference_mode():
            logits = module(torch.zeros(2, 3, *size))
    except Exception as error:
        raise SourceError(f"{text} cannot classify images of {size[0]}x{size[1]} pixels: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise SourceError(f"{text} must map images (2, 3, H, W) to logits (2, classes), got {shape}")
    return logits.shape[1]


def _state_sha256(module: nn.Module) -> str:
    state = {key: value.detach().clone().contiguous() for key, value in module.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()
