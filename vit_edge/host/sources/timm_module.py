"""Transformers of timm that are not read by their keys, through timm's own module where it is installed."""

from typing import Any

from torch import nn

from vit_edge.errors import SourceError
from vit_edge.host.sources.quiet import loading
from vit_edge.host.sources.timm_names import TimmName
from vit_edge.host.sources.timm_source import Weights, source_of
from vit_edge.host.sources.types import Source, SourceOptions


def timm_has(name: str) -> bool:
    """Whether timm is installed and has an architecture of this name."""
    timm = _timm()
    return timm is not None and bool(timm.is_model(name.partition(".")[0]))


def from_timm_module(weights: Weights, options: SourceOptions) -> Source:
    """Read weights into timm's own module of their name.

    Args:
        weights: under timm's keys.
        options: what the user states.

    Raises:
        SourceError: timm cannot make the model, or the weights do not fit.
    """
    timm = _timm()
    base, _, tag = weights.arch.partition(".")
    if timm is None:
        raise SourceError(f"{weights.arch} is read through timm: pip install timm")
    head = next((weights.state[k] for k in ("head.weight", "head.fc.weight") if k in weights.state), None)
    with loading("timm", f"{weights.file.name} as {weights.arch}"):
        cfg = timm.models.get_pretrained_cfg(weights.arch) or timm.models.get_pretrained_cfg(base)
        module: nn.Module = timm.create_model(
            base,
            pretrained=False,
            num_classes=0 if head is None else head.shape[0],
            **({} if weights.pool is None else {"global_pool": weights.pool}),
            **({} if options.image_size is None else {"img_size": options.image_size}),
        )
        module.load_state_dict(dict(weights.state), strict=True)
    whole: dict[str, Any] = cfg.to_dict()
    size = options.image_size or tuple(whole["input_size"][1:])
    known = TimmName.of(base, {"size": size, "tags": {tag: {**whole, "classes": cfg.num_classes}}})
    note = f"the model is {type(module).__name__} of timm {timm.__version__}"
    return source_of(weights, known, module.eval(), size, options, (note,))


def _timm() -> Any:
    try:
        import timm
    # A torchvision that does not fit the torch here fails with another exception.
    except Exception:
        return None
    return timm
