"""One streaming pass over the calibration images: what every layer sees, in memory that does not grow.

For each tapped activation: the smallest and largest value per channel, the second moment (for rounding
weights against the inputs they will meet), and a bounded sample of rows (for scoring a range on the layer's
own output). The sample takes the same share of each image, and always its first row, the CLS token, and its
most extreme one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime

from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.lower.plan import FLOAT
from vit_edge.host.rewrite.canonical import Canonical

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

SAMPLE_ROWS = 2048  # rows kept per activation, whatever the number of images


@dataclasses.dataclass
class Activation:
    """What one activation (rows, channels) was like."""

    low: Float64  # (channels,)
    high: Float64  # (channels,)
    mean: Float64  # (channels,)
    moment: (
        Float64 | None
    )  # (channels, channels), mean of the outer products; None where it was not asked for
    rows: int  # rows seen
    sample: Float32  # (at most SAMPLE_ROWS, channels)

    def folded(self, scale: Float64, shift: Float64) -> "Activation":
        """The same of (x - shift) / scale, both (channels,); exact, so no second pass is needed."""
        moment = self.moment
        if moment is not None:
            cross = np.outer(self.mean, shift)
            moment = (moment - cross - cross.T + np.outer(shift, shift)) / np.outer(scale, scale)
        low, high, mean = ((values - shift) / scale for values in (self.low, self.high, self.mean))
        sample = ((self.sample - shift) / scale).astype(np.float32)
        return Activation(low, high, mean, moment, self.rows, sample)


class _Collector:
    def __init__(self, images: int, moment: bool) -> None:
        self.quota = max(2, SAMPLE_ROWS // images)
        self.moment = moment
        self.low: Float64 | None = None
        self.high: Float64 | None = None
        self.sum: Float64 | None = None
        self.total: Float64 | None = None
        self.rows = 0
        self.kept: list[Float32] = []
        self.count = 0

    def add(self, values: Float32, rng: np.random.Generator) -> None:
        """Take in the activation (rows, channels) of one image."""
        low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        summed = values.sum(axis=0, dtype=np.float64)
        self.sum = summed if self.sum is None else self.sum + summed
        self.rows += len(values)
        if self.moment:
            outer = (values.T @ values).astype(np.float64)
            self.total = outer if self.total is None else self.total + outer
        if self.count < SAMPLE_ROWS:
            chosen = self.chosen(values, rng)
            self.kept.append(values[chosen[: SAMPLE_ROWS - self.count]].copy())
            self.count += len(self.kept[-1])

    def chosen(self, values: Float32, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        if len(values) <= self.quota:
            return np.arange(len(values))
        extreme = int(np.abs(values).max(axis=1).argmax())
        others = rng.permutation(len(values))
        return np.concatenate([[0, extreme], others[~np.isin(others, (0, extreme))]])[: self.quota]

    def finished(self) -> Activation:
        if self.low is None or self.high is None or self.sum is None:
            raise ValueError("no image was observed")
        moment = None if self.total is None else self.total / self.rows
        sample = np.concatenate(self.kept)
        return Activation(self.low, self.high, self.sum / self.rows, moment, self.rows, sample)


def observe(
    canonical: Canonical,
    settings: LowerSettings,
    taps: Sequence[str],
    images: Iterable[Pixels],
    count: int,
    progress: Callable[[int, int], None],
) -> dict[str, Activation]:
    """Run the float model over `images` and collect every tap.

    Args:
        canonical: the model.
        settings: fixed batch 1, `pixels` input.
        taps: as for `lower_taps`; operands of attention come as (rows, heads * width), its
            probabilities as (heads * rows, keys).
        images: uint8 (H, W, 3) each; consumed once.
        count: how many there are.
        progress: called after each image with (done, count).
    """
    model, outputs = lower_taps(canonical, settings, FLOAT, taps)
    session = load(model.SerializeToString())
    distinct = list(dict.fromkeys(outputs))
    is_operand = {tap for tap in taps if tap.endswith(tuple(f".attention.{letter}" for letter in "qkvp"))}
    collectors = {tap: _Collector(count, moment=tap not in is_operand) for tap in taps}
    rng = np.random.default_rng(0)
    for done, pixels in enumerate(images, 1):
        values = dict(zip(distinct, session.run(distinct, {settings.form.value: pixels[None]}), strict=True))
        for tap, output in zip(taps, outputs, strict=True):
            collectors[tap].add(_as_rows(values[output], joined=not tap.endswith(".p")), rng)
        progress(done, count)
    return {tap: collector.finished() for tap, collector in collectors.items()}


def load(model: bytes) -> onnxruntime.InferenceSession:
    """A session on the CPU with the options that INT8 files are written for."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in SESSION_OPTIONS.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


# Safe because every first operand of our integer products is uint8; lets signed keys and values stay signed.
SESSION_OPTIONS = {"session.qdqisint8allowed": "1"}


def logits(model: bytes, images: Sequence[Pixels]) -> Float32:
    """float32 (N, classes) of a model that takes `pixels` with batch 1."""
    return np.concatenate(list(_each(load(model), images)))


def _each(session: onnxruntime.InferenceSession, images: Sequence[Pixels]) -> Iterator[Float32]:
    name = session.get_inputs()[0].name
    for pixels in images:
        yield session.run(None, {name: pixels[None]})[0]


def _as_rows(values: Float32, *, joined: bool) -> Float32:
    """(rows, channels) of one image; heads come side by side where joined, else one below another."""
    if values.ndim == 2:
        return values
    _, heads, rows, width = values.shape
    if not joined:
        return values.reshape(heads * rows, width)
    side_by_side: Float32 = values[0].transpose(1, 0, 2).reshape(rows, heads * width)
    return side_by_side
