"""Weights run by timm: its model and its evaluation transform."""

from typing import Any

import torch

from vit_edge.errors import SourceError
from vit_edge.host.reference.transformed import TransformedPipeline
from vit_edge.host.sources.jsonfile import read_object
from vit_edge.host.sources.quiet import loading
from vit_edge.host.sources.timm_data import own_config, tags_of
from vit_edge.host.sources.timm_names import timm_name
from vit_edge.host.sources.types import OwnPipeline
from vit_edge.spec import CropRule, OutputKind, PreprocessSpec, ResizeMode
from vit_edge.stated import StatedPreprocess

_INSTALL = "pip install timm (with a torchvision that fits this torch)"


class TimmPipeline(TransformedPipeline):
    """`timm.create_model` with the file's weights, and `timm.data.create_transform` for its data config.

    A `config.json` beside the file, as timm pushes it to the hub, says the arguments of the model and the
    data config.

    Args:
        own: the architecture, with or without a tag, the file, and what is stated in place of its word.
        spec: the recipe that this came to.
        numbers: that the head gives.
        kind: what they mean.

    Raises:
        SourceError: timm is not installed, cannot load the file, or cannot do what is stated.
    """

    def __init__(self, own: OwnPipeline, spec: PreprocessSpec, numbers: int, kind: OutputKind) -> None:
        arguments = transform_arguments(own.stated, spec)
        try:
            import timm
            from timm.data import create_transform, resolve_data_config
            from timm.models import get_pretrained_cfg, load_checkpoint
            from timm.models.vision_transformer import checkpoint_filter_fn
        # Its torchvision may not fit the torch here, which is another exception.
        except Exception as error:
            raise SourceError(f"timm cannot be imported ({type(error).__name__}): {_INSTALL}") from None
        base, _, tag = own.arch.partition(".")
        config = own_config(own.path, base)
        beside = {} if config is None else read_object(own.path.parent / "config.json")
        more = {"global_pool": beside["global_pool"]} if isinstance(beside.get("global_pool"), str) else {}
        with loading("timm", f"{own.path.name} as {own.arch}"):
            model = timm.create_model(
                base,
                **{
                    **more,
                    **(beside.get("model_args") or {}),
                    "pretrained": False,
                    "num_classes": 0 if own.headless else numbers,
                    "img_size": (spec.height, spec.width),
                },
            ).eval()
            # At another size than the trained one, what timm resamples positions with.
            eva = type(model).__name__ == "Eva"
            filters = timm.models.eva.checkpoint_filter_fn if eva else checkpoint_filter_fn
            resample = None if own.stated.image_size is None else filters
            load_checkpoint(model, str(own.path), filter_fn=resample)
            data = config or get_pretrained_cfg(f"{base}.{tag or _default_tag(base)}").to_dict()
            transform = create_transform(**resolve_data_config(arguments, pretrained_cfg=data))
        stated = own.stated.says_something or own.states_kind
        name = (
            f"timm {timm.__version__} ({own.arch}, torch {torch.__version__}"
            f"{', with the stated options' if stated else ''})"
        )
        super().__init__(name, model, transform, kind)


def _default_tag(base: str) -> str:
    known = timm_name(base)
    return tags_of(base)[0] if known is None else next(iter(known.tags))


def transform_arguments(stated: StatedPreprocess, spec: PreprocessSpec) -> dict[str, Any]:
    """What `timm.data.resolve_data_config` takes in place of a model's own data config.

    Args:
        stated: by the user.
        spec: what this came to with what the model says.

    Raises:
        SourceError: timm has no such resize or crop.
    """
    square = spec.height == spec.width
    if stated.crop_rule not in (None, CropRule.TORCHVISION):
        raise SourceError(
            f"the crop is to round as {spec.crop.value} does, which timm's transform cannot: leave "
            "--crop-rule out, or name what answers for it with --reference"
        )
    if spec.resize_mode is ResizeMode.NONE or (spec.resize_mode is ResizeMode.SHORT_SIDE and not square):
        raise SourceError(
            f"timm's transform has no resize as --resize-mode {spec.resize_mode.value} for {spec.height}x"
            f"{spec.width} pixels: name what answers for it with --reference"
        )
    made: dict[str, Any] = {"input_size": (3, spec.height, spec.width)}
    if stated.mean is not None:
        made["mean"] = stated.mean
    if stated.std is not None:
        made["std"] = stated.std
    if stated.interpolation is not None:
        made["interpolation"] = stated.interpolation.value
    if stated.crop_pct is not None or stated.resize_mode is not None:
        made["crop_pct"] = stated.crop_pct or 1.0
        made["crop_mode"] = "squash" if stated.resize_mode is ResizeMode.EXACT else "center"
    return made
