"""Weights run by torchvision: its model and the transform of its published weights."""

from typing import Any

import torch

from vit_edge.errors import SourceError
from vit_edge.host.reference.transformed import TransformedPipeline
from vit_edge.host.sources.quiet import loading
from vit_edge.host.sources.torchvision_data import preset_of
from vit_edge.host.sources.types import OwnPipeline
from vit_edge.spec import CropRule, OutputKind, PreprocessSpec, ResizeMode


class TorchvisionPipeline(TransformedPipeline):
    """`torchvision.models.get_model` with the file's weights, and the `ImageClassification` transform.

    Args:
        own: torchvision's name of the model, with or without that of its weights, the file, and what is
            stated in place of its word.
        spec: the recipe that this came to.
        numbers: that the head gives.
        kind: what they mean.

    Raises:
        SourceError: torchvision is not installed, cannot load the file, or cannot do what is stated.
    """

    def __init__(self, own: OwnPipeline, spec: PreprocessSpec, numbers: int, kind: OutputKind) -> None:
        _refuse_stated(own, spec)
        try:
            import torchvision
        # One that does not fit the torch here fails with another exception.
        except Exception as error:
            raise SourceError(
                f"torchvision cannot be imported ({type(error).__name__}): pip install torchvision (one that "
                "fits this torch)"
            ) from None
        tag, _ = preset_of(own.arch)
        with loading("torchvision", f"{own.path.name} as {own.arch}"):
            model = _model(torchvision, own, numbers, spec).eval()
            weights = torchvision.models.get_model_weights(own.arch.partition(".")[0])[tag]
            transform = weights.transforms(
                crop_size=spec.height,
                resize_size=max(spec.resize),
                interpolation=torchvision.transforms.InterpolationMode(spec.interpolation.value),
                mean=spec.mean,
                std=spec.std,
            )
        stated = own.stated.says_something or own.states_kind
        name = (
            f"torchvision {torchvision.__version__} ({own.arch}, torch {torch.__version__}"
            f"{', with the stated options' if stated else ''})"
        )
        super().__init__(name, model, transform, kind)


def _refuse_stated(own: OwnPipeline, spec: PreprocessSpec) -> None:
    """What the transform of torchvision's weights cannot be told."""
    mend = "name what answers for it with --reference"
    if spec.crop is not CropRule.TORCHVISION:
        raise SourceError(f"torchvision's transform does not halve an odd margin as stated: {mend}")
    if spec.resize_mode is not ResizeMode.SHORT_SIDE or spec.height != spec.width:
        raise SourceError(
            f"torchvision's transform for its weights has no resize {spec.resize_mode.value} to "
            f"{spec.height}x{spec.width}: {mend}"
        )
    if own.stated.image_size is not None and own.arch.startswith("vit_"):
        raise SourceError(f"torchvision does not resample positions when it loads weights: {mend}")


def _model(torchvision: Any, own: OwnPipeline, numbers: int, spec: PreprocessSpec) -> Any:
    name = own.arch.partition(".")[0]
    sized = {"image_size": spec.height} if name.startswith("vit_") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=numbers, **sized)
    if own.path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(own.path)
    else:
        state = torch.load(own.path, map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model.float()
