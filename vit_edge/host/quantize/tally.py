"""What a layer sees over calibration images: extremes, sums, a histogram and a sample of rows."""

import dataclasses

import numpy as np

from vit_edge.arrays import Float32, Float64
from vit_edge.host.quantize.histogram import Histogram
from vit_edge.host.quantize.sample import RowSample


@dataclasses.dataclass
class Activation:
    """What one activation (rows, channels) was like."""

    low: Float64  # (channels,)
    high: Float64  # (channels,)
    mean: Float64  # (channels,)
    moment: Float32 | None
    """(channels, channels), mean of the outer products; None where it was not asked for."""
    rows: int  # rows seen
    sample: Float32  # (at most SAMPLE_ROWS, channels)
    histogram: Histogram  # of all values seen; once folded, of the sample, for channels cannot be told apart

    @property
    def covariance(self) -> Float64:
        """(channels, channels), of an activation whose second moment was asked for."""
        if self.moment is None:
            raise ValueError("the activation was observed without its second moment")
        return self.moment.astype(np.float64) - np.outer(self.mean, self.mean)

    def folded(self, scale: Float64, shift: Float64) -> "Activation":
        """The same of (x - shift) / scale, both (channels,); exact but for the histogram: no second pass."""
        moment = self.moment
        if moment is not None:
            cross = np.outer(self.mean, shift)
            shifted = moment - cross - cross.T + np.outer(shift, shift)
            moment = (shifted / np.outer(scale, scale)).astype(np.float32)
        low, high, mean = ((values - shift) / scale for values in (self.low, self.high, self.mean))
        sample = ((self.sample - shift) / scale).astype(np.float32)
        return Activation(low, high, mean, moment, self.rows, sample, Histogram.of(sample))


@dataclasses.dataclass
class Tally:
    """What one activation was like so far, in a form that can go on and be merged."""

    low: Float64  # (channels,)
    high: Float64  # (channels,)
    sum: Float64  # (channels,)
    outer: Float32 | None  # (channels, channels), sum of the outer products; half of what all of it takes
    rows: int
    histogram: Histogram
    sample: RowSample

    @classmethod
    def of(cls, values: Float32, key: int, moment: bool, each: int | None = None) -> "Tally":
        """The activation (rows, channels) of one image; `each` rows of an image at most go into the sample.

        Raises:
            ValueError: a value is not finite.
        """
        sample = RowSample(each=each)
        sample.add(key, values)
        return cls(
            values.min(axis=0).astype(np.float64),
            values.max(axis=0).astype(np.float64),
            values.sum(axis=0, dtype=np.float64),
            values.T @ values if moment else None,
            len(values),
            Histogram.of(values),
            sample,
        )

    def add(self, values: Float32, key: int) -> None:
        """Take in the activation of one more image, in place."""
        np.minimum(self.low, values.min(axis=0), out=self.low)
        np.maximum(self.high, values.max(axis=0), out=self.high)
        self.sum += values.sum(axis=0, dtype=np.float64)
        if self.outer is not None:
            self.outer += values.T @ values
        self.rows += len(values)
        self.histogram = self.histogram.merged(Histogram.of(values))
        self.sample.add(key, values)

    def take(self, other: "Tally") -> None:
        """Take in another's images, in place."""
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        self.sum += other.sum
        if self.outer is not None and other.outer is not None:
            self.outer += other.outer
        self.rows += other.rows
        self.histogram = self.histogram.merged(other.histogram)
        self.sample = self.sample.merged(other.sample)

    def writable(self) -> "Tally":
        """The same; its sums are copied where they lie in memory of others, as what comes from Ray does."""
        low, high, total = (np.require(each, requirements="W") for each in (self.low, self.high, self.sum))
        outer = None if self.outer is None else np.require(self.outer, requirements="W")
        return dataclasses.replace(self, low=low, high=high, sum=total, outer=outer)

    def finished(self) -> Activation:
        """Means in place of sums."""
        moment = None if self.outer is None else self.outer / np.float32(self.rows)
        mean = self.sum / self.rows
        return Activation(self.low, self.high, mean, moment, self.rows, self.sample.rows(), self.histogram)


@dataclasses.dataclass
class Tallies:
    """The state of a pass: every tap's tally after some images."""

    done: int = 0
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)
    sampled: int | None = None  # rows of each image that are kept at most, see `RowSample.each`

    def take(self, other: "Tallies") -> None:
        """Take in a pass over other images that has the same taps, in place; nothing is left of that one."""
        for tap in list(other.tallies):
            tally = other.tallies.pop(tap)
            if tap in self.tallies:
                self.tallies[tap].take(tally)
            else:
                self.tallies[tap] = tally.writable()
        self.done += other.done

    def finished(self) -> dict[str, Activation]:
        """What each activation was like; nothing is left of the pass, or its sums would be there twice."""
        if not self.done:
            raise ValueError("no image was observed")
        return {tap: self.tallies.pop(tap).finished() for tap in list(self.tallies)}
