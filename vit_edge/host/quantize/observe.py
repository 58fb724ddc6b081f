"""One streaming pass over the calibration images: what every layer sees, in memory that does not grow.

For each tapped activation: the smallest and largest value per channel, the second moment (for rounding
weights against the inputs they will meet), a histogram, and a bounded sample of rows (for scoring a range on
the layer's own output). Passes over parts of the images make that over all of them: extremes, counts,
histogram and sample whatever the parts are, and sums in float64, whose last bits tell the order of addition,
where the parts are the same and taken in one order (`passes.PART`).
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import onnxruntime

from vit_edge.arrays import Float32, Pixels
from vit_edge.errors import ModelError
from vit_edge.host.lower.conv import is_plain_conv
from vit_edge.host.lower.embed import PIXELS, Normalisation, Patches
from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.ort import cpu_session
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.tally import Tallies, Tally
from vit_edge.host.rewrite.canonical import Canonical, float_outputs
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites, image_embed
from vit_edge.runtime.device.machine import may_saturate
from vit_edge.spec import InputForm, ModelForm, PreprocessSpec

Each = Callable[[Callable[[str], "Tally"], Iterable[str]], Iterable["Tally"]]

PATCHES = "embed"  # the tap of the patch embedding's input, which no model is needed for


class Observer:
    """Runs the float model on one image after the other and adds every tap to a calibration.

    Args:
        canonical: the model.
        settings: fixed batch 1, `pixels` input.
        taps: as for `lower_taps`; operands of attention come as (rows, heads * width), its probabilities as
            (heads * rows, keys).
        maps: of the taps, those of convolutions, which come as (rows * columns, channels).
        patches: of the patch embedding, whose input is then observed, too: pixel / 255, channel first.
    """

    def __init__(
        self,
        canonical: Canonical,
        settings: LowerSettings,
        taps: Sequence[str],
        patches: Patches | None = None,
        maps: Collection[str] = (),
    ) -> None:
        self.patches, self.maps = patches, frozenset(maps)
        model, self.outputs = lower_taps(canonical, settings, FLOAT, taps)
        self.name, self.taps, self.settings = canonical.name, taps, settings
        self.model: bytes = model.SerializeToString(deterministic=True)
        self.distinct = list(dict.fromkeys(self.outputs))
        self.session = load(self.model)

    def __getstate__(self) -> dict[str, object]:
        """To another process goes everything but the session."""
        return {name: value for name, value in vars(self).items() if name != "session"}

    def open(self, threads: int) -> None:
        """Make the session that did not come along; one of several workers takes some of the threads."""
        self.session = load(self.model, threads=threads)

    def add(self, calibration: Tallies, pixels: Pixels, each: Each = map, name: str | None = None) -> None:
        """Take in one uint8 (H, W, 3) image.

        Args:
            calibration: what was seen so far; changed in place.
            pixels: the image.
            each: `map`, or that of an executor, whose workers then share the taps.
            name: of the image; None: its number.

        Raises:
            ModelError: an activation is not finite.
        """
        key = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big") >> 1
        made = self.session.run(self.distinct, {self.settings.form.input.value: pixels[None]})
        values = dict(zip(self.distinct, made, strict=True))
        seen = {
            tap: _as_places(values[output])
            if tap in self.maps
            else _as_rows(values[output], joined=not tap.endswith(".p"))
            for tap, output in zip(self.taps, self.outputs, strict=True)
        }
        if self.patches is not None:
            seen[PATCHES] = patch_rows(pixels, self.patches) * np.float32(PIXELS.scale)

        def tallied(tap: str) -> Tally:
            try:
                if tap not in calibration.tallies:
                    moment = not (_is_operand(tap) or tap in self.maps)
                    return Tally.of(seen[tap], key, moment=moment, each=calibration.sampled)
                calibration.tallies[tap].add(seen[tap], key)
            except ValueError as error:
                raise ModelError(
                    f"{self.name}: {tap} gets values that are not finite on calibration image "
                    f"{name or calibration.done + 1}; look for a broken checkpoint or image"
                ) from error
            return calibration.tallies[tap]

        calibration.tallies = dict(zip(seen, each(tallied, list(seen)), strict=True))
        calibration.done += 1


def observer_of(canonical: Canonical, preprocess: PreprocessSpec) -> Observer:
    """Watches, in the float model, everything that quantization needs to know.

    Raises:
        ModelError: the model has no linear layer and no convolution.
    """
    graph = canonical.model.graph
    linears = [str(node.name) for node in composites(graph, LINEAR)]
    convs = [str(node.name) for node in graph if is_plain_conv(node)]
    if not linears and not convs:
        raise ModelError(f"{canonical.name}: has no linear layer and no convolution to quantize")
    operands = [f"{node.name}.{letter}" for node in composites(graph, ATTENTION) for letter in "qkvp"]
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    lowering = LowerSettings(
        ModelForm(1, InputForm.PIXELS), Normalisation(mean, std), float_outputs(canonical)
    )
    embed = image_embed(graph)
    maps = [*convs, *(f"{name}.result" for name in convs)]
    patches = None if embed is None else patches_of(embed)
    return Observer(canonical, lowering, [*linears, *operands, *maps], patches, maps)


def patch_rows(pixels: Pixels, patches: Patches) -> Pixels:
    """The patches (count, channels * height * width) of an image (H, W, channels), channel first."""
    sizes = patches.rows, patches.height, patches.columns, patches.width, patches.channels
    return pixels.reshape(sizes).transpose(0, 2, 4, 1, 3).reshape(patches.count, -1)


def _is_operand(tap: str) -> bool:
    return tap.endswith(tuple(f".attention.{letter}" for letter in "qkvp"))


def load(model: bytes, *, constants_only: bool = False, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU in which integer products are exact, whatever the CPU: what a plan is worth.

    With `constants_only` those with constant weights, which is enough where attention is float; onnxruntime
    cannot change the type of other operands where inner tensors are outputs. A CPU whose products are exact
    in any case is not asked: it would take half as long again for the same bits.
    """
    exact = SESSION_OPTIONS | EIGHT_BITS if constants_only else EXACT_OPTIONS
    entries = exact if may_saturate() else SESSION_OPTIONS
    return cpu_session(model, entries.items(), threads=threads)


# Safe because every first operand of our integer products is uint8; lets signed keys and values stay signed.
SESSION_OPTIONS = {"session.qdqisint8allowed": "1"}
# Asks onnxruntime for products of uint8 with uint8 where others could saturate: slower, exact on every CPU.
EIGHT_BITS = {"session.x64quantprecision": "1"}
EXACT_OPTIONS = {**EIGHT_BITS, "session.qdqisint8allowed": "0"}  # operands that are no constants, too


def logits(model: bytes, images: Sequence[Pixels]) -> Float32:
    """float32 (N, classes) of a model that takes `pixels` with batch 1."""
    return np.concatenate(list(_each(load(model), images)))


def _each(session: onnxruntime.InferenceSession, images: Sequence[Pixels]) -> Iterator[Float32]:
    name = session.get_inputs()[0].name
    for pixels in images:
        yield session.run(None, {name: pixels[None]})[0]


def _as_places(values: Float32) -> Float32:
    """(rows * columns, channels) of one map (1, channels, rows, columns)."""
    return np.ascontiguousarray(values[0].reshape(values.shape[1], -1).T)


def _as_rows(values: Float32, *, joined: bool) -> Float32:
    """(rows, channels) of one image; heads come side by side where joined, else one below another."""
    if values.ndim == 2:
        return values
    windows, heads, rows, width = values.shape
    if not joined:
        return values.reshape(-1, width)
    side_by_side: Float32 = values.transpose(0, 2, 1, 3).reshape(windows * rows, heads * width)
    return side_by_side
