"""A classifier of one of transformers' families: its own module, with weights that were read here.

No code of the folder is run and nothing is looked for elsewhere: the class is one of transformers' own, the
config is a table of numbers, and the weights are read as all others are.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vit_edge.errors import SourceError
from vit_edge.fields import shown
from vit_edge.host.sources.checkpoints.keys import listed
from vit_edge.host.sources.configs import refuse_other_channels
from vit_edge.host.sources.families import FAMILIES, Family, known_families
from vit_edge.host.sources.jsonfile import MOST_UNITS, sides
from vit_edge.host.sources.quiet import first_line, quiet_transformers

# What pretraining leaves and no classifier's logits read; a mask token stands for patches that are hidden.
_UNREAD = r"(?:.*\.)?(?:mask_token|decoder\w*(?:\..*)?|relative_position_index)"
_POOLER = r"(?:.*\.)?pooler\..*"
_MOST_LAYERS, _MOST_TOKENS, _MOST_WINDOW = 1024, 2**14, 64
_SLACK = 2**20  # numbers that a model may have beyond those of its file
_SHOWN = 4  # keys that a message lists
_PLAIN: Mapping[str, Family] = {"vit": Family("ViT"), "deit": Family("DeiT")}  # classifiers are read without


def family_of_config(raw: Mapping[str, Any], where: str, *, tower: bool = False) -> tuple[str, Family]:
    """The model type of a parsed config.json, and its family.

    Args:
        raw: the parsed file.
        where: its name for messages.
        tower: whether no classifier is wanted of it.

    Raises:
        SourceError: none that is known, or one without a classifier.
    """
    model_type = raw.get("model_type")
    known = {**FAMILIES, **_PLAIN} if tower else FAMILIES
    family = known.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise SourceError(
            f"{where}: model_type {shown(model_type)} is none of the families that are read from a folder "
            f"({known_families()}): pass the model itself as module:callable, or an ONNX file of it"
        )
    if family.backbone and not tower:
        raise SourceError(
            f"{where} is of {family.name}, and {family.backbone}: state a class of image towers as "
            "architectures for its embeddings, or pass the model with a classifier of your own as "
            "module:callable"
        )
    return str(model_type), family


def class_name(transformers: Any, raw: Mapping[str, Any], model_type: str, family: Family, where: str) -> str:
    """The name of transformers' classifier of a model type.

    Raises:
        SourceError: this version of transformers has none, or the config names another class.
    """
    table = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    made = table.get(model_type)
    if not isinstance(made, str):
        raise SourceError(
            f"{where} is of {family.name}, which transformers {transformers.__version__} has no classifier "
            "of: install a newer one"
        )
    named = raw.get("architectures") or [made]
    if named != [made]:
        raise SourceError(
            f"{where}: architectures is {shown(named)}, which gives no classes: train a {made} of it, or "
            "pass the model with a classifier of your own as module:callable"
        )
    return made


def vision_part(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a config has the sizes of the image model: in itself, or beside those of a text model."""
    inner = raw.get("vision_config")
    return inner if isinstance(inner, Mapping) else raw


def refuse_unbounded(raw: Mapping[str, Any], where: str) -> None:
    """Refuse numbers in a config that no vision transformer has, before anything is made of them.

    Raises:
        SourceError: the message names the key.
    """
    if raw.get("quantization_config") is not None:
        raise SourceError(f"{where}: the model is quantized already: pass the float model it was made from")
    part, beside = vision_part(raw), raw.get("text_config")
    for each in (raw, part, beside if isinstance(beside, Mapping) else {}):
        _refuse_large(each, where)
    refuse_other_channels(part, where)
    image = sides(part.get("image_size", 224), "image_size", where)
    patch = sides(part.get("patch_size", 16), "patch_size", where)
    tokens = (image[0] // patch[0]) * (image[1] // patch[1])
    if tokens > _MOST_TOKENS:
        raise SourceError(
            f"{where}: image_size and patch_size give {tokens} tokens, more than {_MOST_TOKENS}"
        )


def _refuse_large(part: Mapping[str, Any], where: str) -> None:
    for key, value in part.items():
        most = _MOST_LAYERS if "layers" in key or key == "depths" else MOST_UNITS
        most = _MOST_WINDOW if "window" in key else most
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > most:
                raise SourceError(f"{where}: {key} must be at most {most}, got {shown(number)}")


def load(
    transformers: Any,
    raw: Mapping[str, Any],
    state: Mapping[str, Tensor],
    name: str,
    where: str,
    *,
    pooled: bool = False,
) -> nn.Module:
    """Transformers' module with these weights, in eval mode, with attention written out.

    Args:
        transformers: the library.
        raw: the parsed config.json.
        state: all weights, float32.
        name: of the class.
        where: the config's name for messages.
        pooled: whether the model's own pooler is read.

    Raises:
        SourceError: transformers cannot make the model, or the weights are not those of it.
    """
    kind = getattr(transformers, name)
    with quiet_transformers():
        try:
            config = transformers.CONFIG_MAPPING[raw["model_type"]].from_dict(dict(raw))
            with torch.device("meta"):
                planned = sum(each.numel() for each in kind(config).parameters())
        except Exception as error:  # whatever a config leads it to
            raise SourceError(f"{where}: transformers cannot make a {name} ({first_line(error)})") from error
        _refuse_larger(planned, state, name, where)
        try:
            model, found = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                dtype=torch.float32,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,  # refused below, by name
                output_loading_info=True,
            )
        except Exception as error:
            raise SourceError(f"{where}: transformers cannot load a {name} ({first_line(error)})") from error
    unread = re.compile(_UNREAD if pooled else f"{_UNREAD}|{_POOLER}")
    _refuse_others(model, found, name, where, unread)
    made: nn.Module = model.eval()
    return made


def _refuse_larger(planned: int, state: Mapping[str, Tensor], name: str, where: str) -> None:
    stored = sum(each.numel() for each in state.values())
    if planned > stored + _SLACK:
        raise SourceError(
            f"{where} describes a {name} of {planned:,} parameters, but the weights hold {stored:,}: "
            "they are not of one model"
        )


def _refuse_others(
    model: nn.Module, found: Mapping[str, Any], name: str, where: str, unread: re.Pattern[str]
) -> None:
    """What transformers would fill with random numbers, or leave out, with a warning."""
    parameters = {key for key, _ in model.named_parameters()}
    lacking = [key for key in sorted(found["missing_keys"]) if key in parameters]
    others = [
        ("lack", [key for key in lacking if not unread.fullmatch(key)]),
        ("have the unexpected", [k for k in sorted(found["unexpected_keys"]) if not unread.fullmatch(k)]),
        ("have other shapes in", sorted(str(each[0]) for each in found["mismatched_keys"])),
    ]
    said = [f"{what} {listed(keys, _SHOWN)}" for what, keys in others if keys]
    if said:
        raise SourceError(f"{where}: the weights are not those of the {name}: they {' and '.join(said)}")


def own_size(config: Any) -> tuple[int, int] | None:
    """Pixels (height, width) that a model of transformers was trained at; None where its config is silent."""
    part = getattr(config, "vision_config", None) or config
    size = getattr(part, "image_size", None)
    if isinstance(size, int):
        return size, size
    pair = isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return (size[0], size[1]) if pair and size is not None else None


def resampling(config: Any, size: tuple[int, int] | None) -> dict[str, bool]:
    """What a model of transformers is called with, so that its positions fit another size."""
    return {} if size is None or own_size(config) in (size, None) else {"interpolate_pos_encoding": True}


class Logits(nn.Module):
    """A classifier of transformers' parts at one image size: pixel_values (N, 3, H, W) to logits (N, C).

    Positions that are resampled for that size are computed once, since they depend on nothing else.

    Args:
        model: gives logits, or an object with `logits`.
        size: pixels (height, width).
        more: what it is called with besides.

    Raises:
        Exception: whatever the model raises on images of this size.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int], more: Mapping[str, bool]) -> None:
        super().__init__()
        self.model, self._more = model, dict(more)
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before = self(images)
            for module in [each for each in model.modules() if hasattr(each, "interpolate_pos_encoding")]:
                _settle_positions(self, module, images)
            self.numbers = self(images).shape[1]  # of an image
            if not torch.equal(before, self(images)):
                raise ValueError("its positions depend on the image")

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (N, C) float32."""
        made = self.model(pixel_values=pixel_values, **self._more)
        logits: Tensor = made if isinstance(made, Tensor) else made.logits
        return logits


def _settle_positions(whole: nn.Module, module: nn.Module, images: Tensor) -> None:
    """Replace a module's resampling of positions by what it gives for images of this size."""
    results: list[Tensor] = []
    resample: Any = module.interpolate_pos_encoding

    def recorded(*given: Any, **named: Any) -> Tensor:
        results.append(resample(*given, **named))
        return results[-1]

    vars(module)["interpolate_pos_encoding"] = recorded
    whole(images)
    del vars(module)["interpolate_pos_encoding"]
    if len(results) == 1:
        positions = results[0].detach().clone()  # which may be the parameter itself, of the size it has
        module.register_buffer("settled_positions", positions, persistent=False)
        vars(module)["interpolate_pos_encoding"] = lambda *_, **__: module.settled_positions
