"""open_clip itself: imported late, its model made of a folder or a file, its texts read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.keys import listed
from vit_edge.host.sources.quiet import first_line, loading
from vit_edge.host.sources.types import OwnPipeline, Prompts

_AT_ONCE = 64  # texts
_SHOWN = 3  # keys that a message lists


def open_clip_here() -> Any:
    """The library.

    Raises:
        SourceError: it cannot be imported.
    """
    try:
        import open_clip
    # A torchvision that does not fit the torch here fails with another exception.
    except Exception as error:
        raise SourceError(
            f"open_clip cannot be imported ({type(error).__name__}): pip install open_clip_torch (with a "
            "torchvision that fits this torch)"
        ) from None
    return open_clip


def open_clips_own(own: OwnPipeline, size: tuple[int, int] | None, **recipe: Any) -> tuple[Any, Any]:
    """Its model in float32, in eval mode, and its transform.

    Args:
        own: the folder, or the file with open_clip's name of its model.
        size: pixels (height, width) in place of its own.
        recipe: what its transform is told in place of its own word.

    Raises:
        SourceError: it cannot be imported, or cannot load the model.
    """
    library = open_clip_here()
    with loading("open_clip", own.path.name):
        model, _, transform = library.create_model_and_transforms(
            _called(own), pretrained=str(own.path) if own.arch else None, force_image_size=size, **recipe
        )
    return model.eval().float(), transform


def model_of(own: OwnPipeline, state: Mapping[str, Tensor]) -> Any:
    """Its model of a name with these weights, which were read here: also those of OpenAI's archives.

    Args:
        own: with open_clip's name of its model.
        state: under its keys; what it does not know is left out.

    Raises:
        SourceError: it cannot be imported, does not know the name, or weights are missing or do not fit.
    """
    library = open_clip_here()
    with loading("open_clip", own.path.name):
        model = library.create_model(own.arch)
        wanted = model.state_dict()
        lacking = [key for key in wanted if key not in state]
        if not lacking:
            model.load_state_dict({key: state[key] for key in wanted})
    if lacking:
        raise SourceError(
            f"{own.path.name} lacks {listed(lacking, _SHOWN)}, which {own.arch} of open_clip reads texts "
            "with: pass the whole checkpoint, or leave --labels-text out"
        )
    return model.eval().float()


def text_embeddings(model: Any, own: OwnPipeline, prompts: Prompts) -> Tensor:
    """What its text tower makes of the prompts, float32 (C, D), each of length 1.

    Raises:
        SourceError: a tokenizer that is not there, or texts that it cannot read.
    """
    library = open_clip_here()
    _refuse_remote(library, own)
    try:
        tokens = library.get_tokenizer(_called(own))(list(prompts.texts))
        with torch.no_grad():
            parts = [model.encode_text(part, normalize=True) for part in tokens.split(_AT_ONCE)]
    except Exception as error:
        raise SourceError(
            f"open_clip cannot read the texts with the tokenizer of {own.path.name} ({first_line(error)}): "
            "they need the tokenizer that the model was trained with, and as few words as it takes"
        ) from error
    return torch.cat(parts).float()


def _called(own: OwnPipeline) -> str:
    return own.arch or f"local-dir:{Path(own.path).resolve()}"


def _refuse_remote(library: Any, own: OwnPipeline) -> None:
    """Refuse a tokenizer that open_clip would fetch."""
    config = (library.get_model_config(own.arch) or {}) if own.arch else {}
    named = config.get("text_cfg", {}).get("hf_tokenizer_name")
    if named:
        raise SourceError(
            f"the texts of {own.arch} take the tokenizer {named}, which open_clip would fetch: pass the "
            "folder with open_clip_config.json and the tokenizer's files"
        )
