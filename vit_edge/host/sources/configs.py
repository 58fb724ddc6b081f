"""A `config.json` in Hugging Face's words: what is refused of one, and one for a bundle."""

from collections.abc import Mapping
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.fields import shown
from vit_edge.host.sources.labels import label_maps

COLOURS = 3

_PLACE = "_name_or_path"  # where somebody once kept the model


def refuse_other_channels(raw: Mapping[str, Any], where: str) -> None:
    """Refuse a model of grey or multi-spectral images: what stands before a model makes RGB of every image.

    Args:
        raw: the config of the image model.
        where: the file's name for messages.

    Raises:
        SourceError: `num_channels` is stated, and not three.
    """
    channels = raw.get("num_channels", COLOURS)
    if channels != COLOURS:
        raise SourceError(
            f"{where}: num_channels is {shown(channels)}, but images are read as RGB: pass, as "
            "module:callable, a model that takes the three and makes of them what yours takes"
        )


def with_labels(raw: Mapping[str, Any], labels: tuple[str, ...], size: tuple[int, int]) -> dict[str, Any]:
    """A source's config with the labels and the image size, pixels (height, width), that are in force."""
    kept = _without_places(raw)
    inner = kept.get("vision_config")
    if isinstance(inner, dict):
        kept["vision_config"] = {**inner, "image_size": one_if_square(size)}
    else:
        kept["image_size"] = one_if_square(size)
    return {**kept, **label_maps(labels)}


def one_if_square(size: tuple[int, int]) -> int | list[int]:
    """A size as configs write it."""
    return size[0] if size[0] == size[1] else list(size)


def _without_places(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_places(value) if isinstance(value, Mapping) else value
        for key, value in raw.items()
        if key != _PLACE
    }
