"""Which of the models that were seen is the one to run: accuracy against latency, all timed in one run."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_edge.host.bundling.repair import Standing
from vit_edge.runtime.measure.timing import Milliseconds, exceeds_half

MARGIN = 0.01  # a smaller gain in latency is none


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model that was seen: the float model, which comes first, or a quantization."""

    name: str
    standing: Standing
    drop_at_most: float  # upper end of the 95 % interval, at least 0: points, or percent of changed answers

    @property
    def loss(self) -> tuple[int, float]:
        """What it loses in accuracy, for comparison: what the gate says, then how much it may be."""
        return self.standing, self.drop_at_most


@dataclasses.dataclass(frozen=True, eq=False)
class Timings:
    """Latencies of all candidates in interleaved rounds, the float model's in the first column."""

    times: Milliseconds  # (rounds, candidates)

    def ratio(self, index: int) -> float:
        """Median over rounds of the latency in units of the float model's in the same round."""
        return float(np.median(self.times[:, index] / self.times[:, 0]))

    def faster(self, one: int, other: int) -> bool:
        """Whether one is faster by MARGIN in more than half of all rounds, and not by chance (sign test)."""
        wins = int(np.count_nonzero((1 + MARGIN) * self.times[:, one] < self.times[:, other]))
        return exceeds_half(wins, len(self.times))


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen."""

    integer: int  # the quantization to keep, by its index among the candidates
    runs: bool  # whether it is what runs by default; if not, the float model is
    reason: str


def choose(candidates: Sequence[Candidate], timings: Timings, *, time_counts: bool = True) -> Choice:
    """The fastest model that is good enough; of those as fast but for noise the most accurate.

    What runs by default is never both slower and less accurate (by `loss`) than another candidate.

    Args:
        candidates: the float model first, and at least one quantization.
        timings: of the same, in the same order.
        time_counts: whether the times are those of the device; if not, they only rank the quantizations.
    """
    everything = range(1, len(candidates))
    best = min(candidates[i].standing for i in everything)
    if best > Standing.PLAUSIBLE:
        closest = min(everything, key=lambda i: candidates[i].loss)
        return Choice(closest, False, "no quantization keeps the accuracy asked for")
    good = [i for i in everything if candidates[i].standing == best]
    paying = [i for i in good if timings.faster(i, 0)]
    if time_counts and not paying:
        index = _preferred(candidates, timings, good, good)
        return Choice(index, False, "integers are not faster than float on this machine, beyond noise")
    index = _preferred(candidates, timings, paying if time_counts else good, good)
    return Choice(index, True, _reason(index, candidates, timings, good))


def reason_against(index: int, choice: Choice, candidates: Sequence[Candidate], timings: Timings) -> str:
    """Why another candidate was not chosen."""
    chosen = choice.integer if choice.runs else 0
    if index == 0:
        return "the reference"
    if candidates[index].standing > Standing.PLAUSIBLE:
        return "does not keep the accuracy asked for"
    if index == choice.integer:
        return "kept for its size alone"
    if candidates[index].standing > candidates[choice.integer].standing:
        return "its accuracy is not decided"
    if timings.faster(chosen, index):
        return f"slower than {candidates[chosen].name}"
    return f"no faster than {candidates[chosen].name} beyond noise, and less accurate"


def _preferred(
    candidates: Sequence[Candidate], timings: Timings, among: Sequence[int], good: Sequence[int]
) -> int:
    """The most accurate of those that are as fast as the fastest of `among`, but for noise."""
    fastest = min(among, key=timings.ratio)
    slowest = max(timings.ratio(i) for i in among if not timings.faster(fastest, i))
    # whatever is no slower than the slowest of these is a rival, so that none is both faster and better
    rivals = [i for i in good if timings.ratio(i) <= slowest]
    return min(rivals, key=lambda i: (candidates[i].loss, timings.ratio(i)))


def _reason(index: int, candidates: Sequence[Candidate], timings: Timings, good: Sequence[int]) -> str:
    others = [i for i in good if i != index]
    passes = candidates[index].standing is Standing.PASS
    known = "that passes" if passes else "with a tolerable estimate"
    if not others:
        return f"the only quantization of this file {known}"
    if all(timings.ratio(index) <= timings.ratio(i) for i in others):
        return f"the fastest {known}"
    those = "that pass and" if passes else "with a tolerable estimate that"
    return f"the most accurate of those {those} are as fast as the fastest but for noise"
