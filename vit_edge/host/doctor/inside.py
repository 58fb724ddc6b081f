"""What happens in a float model's blocks on a few images: dead heads and blocks, massive activations."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.arrays import Array, Float32, Float64, Pixels
from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.ort import cpu_session
from vit_edge.host.plan import FLOAT
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import EMBED, LINEAR, composites
from vit_edge.host.rewrite.values import linear_parts
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import InputForm, ModelForm, PreprocessSpec

CODES = (Code.DEAD_HEAD, Code.DEAD_BLOCK, Code.MASSIVE_ACTIVATIONS)

_DEAD = 1e-3  # of what is usual; less is nothing
_STILL = 1e-6  # share of a head's power that differs between images; less is a constant
_MASSIVE = 30.0  # times the usual largest number of a token
_LEAST_TOKENS = 4
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Massive:
    """The largest number of an activation, where it is far beyond the usual."""

    layer: str
    value: float
    usual: float
    """Median over tokens of the largest number of a token."""
    token: int
    channel: int

    @property
    def ratio(self) -> float:
        """How many times the usual it is."""
        return self.value / self.usual


def look_inside(canonical: Canonical, preprocess: PreprocessSpec, pixels: Pixels) -> list[Finding]:
    """Watch every linear layer of a canonical float model.

    Args:
        canonical: from `canonicalise`, not folded.
        preprocess: of its images.
        pixels: (N, H, W, 3) uint8, two at least.
    """
    settings = LowerSettings(ModelForm(1), normalisation_of(preprocess))
    names = [str(node.name) for node in composites(canonical.model.graph, LINEAR)]
    branches = [name for name in names if name.endswith((".proj", ".fc2")) and name.startswith("blocks.")]
    taps = [*names, *(f"{name}.out" for name in branches)]
    model, outputs = lower_taps(canonical, settings, FLOAT, taps)
    session, seen = cpu_session(model.SerializeToString()), _Seen(branches)
    for image in normalize(pixels, preprocess):
        distinct = list(dict.fromkeys(outputs))
        made = dict(
            zip(distinct, session.run(distinct, {InputForm.PIXEL_VALUES.value: image[None]}), strict=True)
        )
        for tap, output in zip(taps, outputs, strict=True):
            seen.add(tap, made[output].reshape(-1, made[output].shape[-1]))
    return [
        *_heads(canonical, {name: np.stack(rows) for name, rows in seen.mixed.items()}),
        *_blocks({name: float(np.sqrt(np.mean(squares))) for name, squares in seen.squares.items()}),
        *_massive({name: seen.peaks[name] for name in names}, _prefix(canonical)),
    ]


class _Seen:
    """What is kept of activations; all of them would not fit where models are large."""

    def __init__(self, branches: Sequence[str]) -> None:
        self.branches = frozenset(branches)
        self.mixed: dict[str, list[Float32]] = {}
        """In front of each projection behind attention, (tokens, heads * width) of each image."""
        self.squares: dict[str, list[float]] = {}
        """Of what each branch adds: the mean over tokens and channels, of each image."""
        self.peaks: dict[str, list[Peaks]] = {}
        """In front of each linear layer."""

    def add(self, tap: str, values: Float32) -> None:
        """Take in an activation (tokens, channels) of one image."""
        name = tap.removesuffix(".out")
        if tap.endswith(".out") and name in self.branches:
            self.squares.setdefault(name, []).append(float((values.astype(np.float64) ** 2).mean()))
            return
        self.peaks.setdefault(tap, []).append(Peaks.of(values))
        if tap in self.branches and tap.endswith(".proj"):
            self.mixed.setdefault(tap, []).append(values)


@dataclasses.dataclass(frozen=True, eq=False)
class Peaks:
    """The largest number of each token of an image, and its channel."""

    values: Float64
    channels: NDArray[np.intp]

    @classmethod
    def of(cls, activation: Float32) -> Self:
        """Of (tokens, channels)."""
        sizes = np.abs(activation)
        return cls(sizes.max(axis=1).astype(np.float64), sizes.argmax(axis=1))


def _prefix(canonical: Canonical) -> tuple[int, int]:
    """Tokens in front of the patches, and columns of the grid."""
    patches = patches_of(next(composites(canonical.model.graph, EMBED)))
    return patches.prefix, patches.columns


def _heads(canonical: Canonical, seen: dict[str, Float32]) -> list[Finding]:
    """Heads that add nothing to the stream, or the same to every image."""
    powers: dict[str, float] = {}
    moving: dict[str, float] = {}
    for name, weight, heads in _projections(canonical):
        width = weight.shape[0] // heads
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            added = seen[name][..., part].astype(np.float64) @ weight[part].astype(np.float64)
            key = f"{name.removesuffix('.proj')} head {head}"
            powers[key], moving[key] = float((added**2).mean()), float(added.var(axis=0).mean())
    if not powers:
        return []
    usual = float(np.median(list(powers.values())))
    dead = [key for key, power in powers.items() if power <= _DEAD**2 * usual]
    still = [key for key in powers if key not in dead and moving[key] <= _STILL * powers[key]]
    found = []
    for keys, what in ((dead, "add nothing"), (still, "add the same whatever the image")):
        if keys:
            figures = tuple(Figure(f"{key}, rms", powers[key] ** 0.5) for key in keys)
            text = f"{len(keys)} of {len(powers)} attention heads {what}: {_named(keys)}"
            told = Figure("usual rms", usual**0.5), *figures
            mend = "look for weights that were not loaded or trained; a head that is meant to be off can go"
            found.append(Finding(Code.DEAD_HEAD, Severity.WARNING, text, mend, told))
    return found


def _projections(canonical: Canonical) -> Iterator[tuple[str, Array, int]]:
    """Name, weight and number of heads of the projection behind each attention."""
    description = canonical.description
    for node in composites(canonical.model.graph, LINEAR):
        name = str(node.name)
        if description is not None and name.startswith("blocks.") and name.endswith(".proj"):
            weight = linear_parts(node)[1]
            if len(description.stages) == 1 and weight.shape[0] % description.heads == 0:
                yield name, weight, description.heads


def _blocks(sizes: dict[str, float]) -> list[Finding]:
    """Branches that add nothing to the stream, by the rms of what they add."""
    usual = float(np.median(list(sizes.values()))) if sizes else 0.0
    dead = [name for name, size in sizes.items() if size <= _DEAD * usual]
    if not dead:
        return []
    kinds = {"proj": "attention", "fc2": "MLP"}
    shown = [f"{kinds[name.rpartition('.')[2]]} of {name.rpartition('.')[0]}" for name in dead]
    return [
        Finding(
            Code.DEAD_BLOCK,
            Severity.WARNING,
            f"{len(dead)} of {len(sizes)} branches add nothing to the tokens: {_named(shown)}",
            "look for weights that were not loaded or not trained",
            (Figure("usual rms", usual), *(Figure(f"{name}, rms", sizes[name]) for name in dead)),
        )
    ]


def _massive(inputs: dict[str, list[Peaks]], place: tuple[int, int]) -> list[Finding]:
    """Sun et al., Massive Activations in Large Language Models (2024), who find them in ViTs, too."""
    found = [each for name, values in inputs.items() if (each := _largest(name, values)) is not None]
    if not found:
        return []
    worst = sorted(found, key=lambda each: -each.ratio)
    shown = "; ".join(
        f"{each.value:.0f} in front of {each.layer}, {_token(each.token, place)}, channel {each.channel}: "
        f"{each.ratio:.0f} times the usual {each.usual:.2g}"
        for each in worst[:_SHOWN]
    )
    return [
        Finding(
            Code.MASSIVE_ACTIVATIONS,
            Severity.NOTE,
            f"layers with massive activations ({len(found)}): {shown}",
            "one range for all tokens would lose the others: `build` measures it, token by token",
            tuple(Figure(f"{each.layer}, times the usual", each.ratio) for each in worst),
        )
    ]


def _largest(layer: str, peaks: Sequence[Peaks]) -> Massive | None:
    """Over all images; only where there are enough tokens to know what is usual."""
    if len(peaks[0].values) < _LEAST_TOKENS:
        return None
    usual = float(np.median(np.concatenate([each.values for each in peaks])))
    worst = max(peaks, key=lambda each: float(each.values.max()))
    token = int(worst.values.argmax())
    value = float(worst.values[token])
    if usual == 0.0 or value < _MASSIVE * usual:
        return None
    return Massive(layer, value, usual, token, int(worst.channels[token]))


def _token(token: int, place: tuple[int, int]) -> str:
    prefix, columns = place
    if token < prefix:
        return "class token" if token == 0 else f"prefix token {token}"
    row, column = divmod(token - prefix, columns)
    return f"patch at row {row}, column {column}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
