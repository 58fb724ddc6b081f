"""Which part of a training checkpoint is the model's weights, and what stands before their keys."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.known import anchor

# Put between any two parts of a key by torch.compile, FSDP and activation checkpointing.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Parts of a training module that do not take part in the model's answer, by the first word of their keys.
_BESIDE = re.compile(r"(?i).*(?:criterion|loss|metric|accuracy|acc|f1|auroc)")
_DEEPEST = 3  # containers within containers

State = Mapping[str, Any]


def chosen_state(loaded: Mapping[Any, Any], where: str, wanted: str | None = None) -> dict[str, Any]:
    """The one set of ViT weights in what a checkpoint file holds, under the keys that its model gave them.

    Args:
        loaded: what the file holds.
        where: its name for messages.
        wanted: the container (`model_ema`) or prefix (`teacher`) that is meant, where there are several.

    Returns:
        Key -> value; all of a file without ViT weights, for the caller to refuse.

    Raises:
        SourceError: several sets and none of them named, an unknown name, or tensors beside the model that
            may take part in its answer.
    """
    sets = list(_sets(loaded, anchor(), (), _DEEPEST))
    if not sets:
        return _plain(loaded, where)
    names = ", ".join(found.shown for found in sets)
    matching = [found for found in sets if wanted is None or wanted in (found.name, *found.name.split("/"))]
    if not matching:
        raise SourceError(f"{where} holds no weights named {wanted}: there are {names}")
    if len(matching) > 1:
        raise SourceError(
            f"{where} holds several sets of weights ({names}): say with --weights which one you mean"
        )
    (chosen,) = matching
    inner = tuple(each.prefix for each in sets if len(each.prefix) > len(chosen.prefix))
    _refuse_beside(chosen, tuple(each.prefix for each in sets), where)
    return {
        key.removeprefix(chosen.prefix): value
        for key, value in chosen.state.items()
        if key.startswith(chosen.prefix) and not key.startswith(inner)
    }


@dataclasses.dataclass(frozen=True, eq=False)
class _Set:
    """One set of weights."""

    name: str  # its containers, and the prefix of its keys, joined by slashes
    prefix: str
    state: State  # the whole mapping that it stands in

    @property
    def shown(self) -> str:
        """For messages."""
        return self.name or "those without a prefix"


def _sets(
    holder: Mapping[Any, Any], recognised: re.Pattern[str], path: tuple[str, ...], depth: int
) -> Iterator[_Set]:
    state = {_WRAPPERS.sub("", key): value for key, value in holder.items() if isinstance(key, str)}
    for key, value in state.items():
        found = recognised.fullmatch(key) if isinstance(value, Tensor) else None
        if found is not None:
            prefix = found["prefix"]
            name = prefix.removesuffix(".").removesuffix("module").removesuffix(".")
            yield _Set("/".join([*path, *([name] if name else [])]), prefix, state)
    for key, value in holder.items() if depth else ():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _sets(value, recognised, (*path, key), depth - 1)


def _plain(loaded: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """The named tensors of a file that holds no weights of a ViT."""
    inner = [
        value
        for value in loaded.values()
        if isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())
    ]
    state = inner[0] if len(inner) == 1 else loaded
    if not state or not all(isinstance(key, str) for key in state):
        raise SourceError(f"{where} holds no named tensors: save model.state_dict() instead")
    return dict(state)


def _refuse_beside(chosen: _Set, prefixes: tuple[str, ...], where: str) -> None:
    """Refuse tensors outside the model of which nobody knows what they do to its answer."""
    others = tuple(prefix for prefix in prefixes if prefix)
    for key, value in chosen.state.items():
        if key.startswith(chosen.prefix) or key.startswith(others) or _BESIDE.match(key.partition(".")[0]):
            continue
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 1:
            raise SourceError(
                f"{where} has {key} beside the weights under {chosen.prefix!r}, and nothing says what it "
                "does to their answer: pass the model itself as module:callable"
            )
