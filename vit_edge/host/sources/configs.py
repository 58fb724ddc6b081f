"""A `config.json` in Hugging Face's words, for a bundle."""

from collections.abc import Mapping
from typing import Any

from vit_edge.host.sources.labels import label_maps

_PLACE = "_name_or_path"  # where somebody once kept the model


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
