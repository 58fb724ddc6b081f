"""How often the gate errs: the tables behind docs/evidence.md, computed again.

Usage: python -m tools.coverage [-o models/results/coverage.json] [--runs 2000]

Errors of a single look are not simulated but summed over all outcomes. The rest is simulated, seeds fixed.
It takes some minutes on one core; nothing but numpy is needed.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_edge.spec import Tolerance
from vit_edge.verify.copies import Scenes
from vit_edge.verify.expected import expected_drop
from vit_edge.verify.metrics import log_softmax
from vit_edge.verify.paired import score_interval
from vit_edge.verify.plan import plan_drop
from vit_edge.verify.proportion import beta_cdf
from vit_edge.verify.sequential import wealths
from vit_edge.verify.unconditional import SET_SHARE, exact_interval, p_value, statistic

Reals = NDArray[np.float64]
Row = dict[str, Any]
Counts = tuple[float, float]  # lost, gained

CONFIDENCE, TAIL, Z = 0.95, 0.025, 1.959963984540054
DROP = 0.01  # tolerated, and true where an error is looked for
SIZES = (50, 100, 200, 300, 400, 1000, 2000, 10_000)
GAINS = (0.0005, 0.003, 0.01, 0.03)
MOST_DISCORDANT = 350  # images expected; beyond it both intervals are the same but for a thousandth


def rejects(lost: float, gained: float, n: int, drop: float) -> bool:
    """Whether the exact test says that more than `drop` is lost."""
    return p_value(lost, gained, n, drop, SET_SHARE * TAIL) <= TAIL


def score_rejects(lost: float, gained: float, n: int, drop: float) -> bool:
    """The same by the normal distribution."""
    return float(statistic(np.asarray(float(lost)), np.asarray(float(gained)), n, drop)) > Z


def error(n: int, drop: float, gain: float, test: Callable[[float, float, int, float], bool]) -> float:
    """Probability that a test refuses the true drop, summed over all outcomes."""
    loss, total, least = gain + drop, 0.0, 0
    spread = 6.0 * (n * gain + 1.0) ** 0.5
    for gained in range(max(0, int(n * gain - spread)), min(n, int(n * gain + spread)) + 1):
        chance = at_least(gained, n, gain) - at_least(gained + 1, n, gain)
        lost = max(least - 2, int(gained + n * drop), 0)
        while lost <= n - gained and not test(lost, gained, n, drop):
            lost += 1
        least = lost
        total += chance * at_least(lost, n - gained, loss / (1.0 - gain))
    return total


def at_least(count: int, trials: int, probability: float) -> float:
    """P(X >= count) of binomial X."""
    if count <= 0:
        return 1.0
    return 0.0 if count > trials else beta_cdf(probability, count, trials - count + 1.0)


def single_looks(sizes: Sequence[int]) -> list[Row]:
    """Both errors at a true drop that equals the tolerated one, in percent."""
    rows = []
    for n in sizes:
        for gain in GAINS:
            if n * (2 * gain + DROP) > MOST_DISCORDANT:
                continue
            rows.append(
                {
                    "n": n,
                    "gained": 100 * gain,
                    "lost": 100 * (gain + DROP),
                    "wrong_fail": 100 * error(n, DROP, gain, rejects),
                    "wrong_pass": 100 * error(n, -DROP, gain + DROP, rejects),
                    "wrong_fail_score": 100 * error(n, DROP, gain, score_rejects),
                    "wrong_pass_score": 100 * error(n, -DROP, gain + DROP, score_rejects),
                    "width_ratio": _width_ratio(n, gain),
                }
            )
    return rows


def _width_ratio(n: int, gain: float) -> float:
    """Of the exact interval to the score interval at the counts to expect."""
    counts = round(n * (gain + DROP)), round(n * gain)
    exact, score = (way(*counts, n, CONFIDENCE) for way in (exact_interval, score_interval))
    return (exact[1] - exact[0]) / (score[1] - score[0])


def repeated_looks(runs: int) -> list[Row]:
    """Wrong verdicts by the k-th look at a set that grows by as many images as it began with, in percent."""
    rows = []
    for start, lost, gained in ((300, 0.012, 0.002), (400, 0.02, 0.01), (1000, 0.015, 0.005)):
        rng = np.random.default_rng(start)
        counts = np.zeros((runs, 3))
        state = {key: np.zeros(runs, bool) for key in ("pass", "fail", "pass_plain", "fail_plain")}
        for look in range(1, 6):
            counts += rng.multinomial(start, [lost, gained, 1 - lost - gained], runs)
            n = start * look
            z = statistic(counts[:, 0], counts[:, 1], n, DROP)
            state["pass_plain"] |= z <= -Z
            state["fail_plain"] |= z >= Z
            passes, fails = _first(counts, n) if look == 1 else _again(counts, n)
            state["pass"] |= passes & ~state["fail"]
            state["fail"] |= fails & ~state["pass"]
            shares = {f"wrong_{key}": 100 * float(hit.mean()) for key, hit in state.items()}
            rows.append({"images_per_look": start, "looks": look, "lost": 100 * lost, **shares})
    return rows


def _first(counts: Reals, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    outcomes, place = np.unique(counts[:, :2], axis=0, return_inverse=True)
    decided = [
        (rejects(gained, lost, n, -DROP), rejects(lost, gained, n, DROP))
        for lost, gained in outcomes.tolist()
    ]
    table = np.array(decided)[place.reshape(-1)]
    return table[:, 0], table[:, 1]


def _again(counts: Reals, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    level, values = np.log(1.0 / TAIL), np.array([1.0, -1.0, 0.0])
    drop = (counts[:, 0] - counts[:, 1]) / n
    below = (wealths(counts, values, DROP) >= level) & (drop < DROP)
    above = (wealths(counts, -values, -DROP) >= level) & (drop > DROP)
    return below, above


def copies(runs: int) -> list[Row]:
    """Coverage of the 95 % interval where every scene has several images, in percent."""
    rows, n, lost, gained = [], 300, 0.02, 0.01
    for images in (1, 2, 5, 20):
        for alike in (1.0, 0.7):  # probability that an image answers as its scene does
            rng = np.random.default_rng(images)
            weights = Scenes(np.repeat(np.arange(n), images)).weights
            covered = plain = 0
            for _ in range(runs):
                scene = np.repeat(rng.choice(3, n, p=[lost, gained, 1 - lost - gained]), images)
                own = rng.choice(3, n * images, p=[lost, gained, 1 - lost - gained])
                outcome = np.where(rng.random(n * images) < alike, scene, own)
                x, y = (float(weights[outcome == each].sum()) for each in (0, 1))
                covered += _covers(round(x, 9), round(y, 9), n, lost - gained)
                all_x, all_y = (np.asarray(float((outcome == each).sum())) for each in (0, 1))
                z = statistic(all_x, all_y, n * images, DROP)
                plain += abs(float(z)) <= Z
            rows.append(
                {
                    "images_per_scene": images,
                    "alike": alike,
                    "coverage": 100 * covered / runs,
                    "coverage_plain": 100 * plain / runs,
                }
            )
            if images == 1:
                break
    return rows


_KNOWN: dict[tuple[float, float, int], bool] = {}


def _covers(lost: float, gained: float, n: int, drop: float) -> bool:
    key = lost, gained, n
    if key not in _KNOWN:
        _KNOWN[key] = not (rejects(lost, gained, n, drop) or rejects(gained, lost, n, -drop))
    return _KNOWN[key]


def expected_drops(runs: int) -> list[Row]:
    """Coverage of the drop by the float model's probabilities, right and wrong ones, in percent."""
    rows = []
    for truth in (1.0, 1.5, 0.7):  # temperature of the labels: right, overconfident, underconfident
        for noise in (0.1, 0.5):
            logits, other, p = _population(40_000, noise, truth)
            true = 100 * float(_cost(logits, other, p).mean())
            rows += [
                _expected_row(logits, other, p, n, runs, true) | {"truth": truth, "noise": noise}
                for n in (100, 500, 2000)
            ]
    return rows


def _expected_row(logits: Reals, other: Reals, p: Reals, n: int, runs: int, true: float) -> Row:
    rng = np.random.default_rng(n)
    covered: list[bool] = []
    fitted: list[bool] = []
    refused: list[bool] = []
    width: list[float] = []
    for _ in range(runs):
        some = rng.integers(0, len(logits), n)
        labels = (p[some].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=p.shape[1] - 1)
        for given, hits in ((None, covered), (labels, fitted)):
            found = expected_drop(logits[some], other[some], given, Tolerance())
            assert found.ci95 is not None  # noqa: S101  the number of images is fixed
            hits.append(found.ci95[0] <= true <= found.ci95[1])
            if given is None:
                width.append(found.ci95[1] - found.ci95[0])
            elif found.calibration is not None:
                refused.append(found.calibration.p_value < 0.05)
    return {
        "n": n,
        "drop": true,
        "width": float(np.mean(width)),
        "coverage_unlabelled": 100 * float(np.mean(covered)),
        "coverage_labelled": 100 * float(np.mean(fitted)),
        "calibration_refused": 100 * float(np.mean(refused)) if refused else None,
    }


def _population(n: int, noise: float, truth: float) -> tuple[Reals, Reals, Reals]:
    rng, classes = np.random.default_rng(7), 20
    logits = rng.normal(0, 1.5, (n, classes))
    logits[np.arange(n), rng.integers(0, classes, n)] += rng.gamma(2.0, 3.0, n)
    return logits, logits + rng.normal(0, noise, logits.shape), np.exp(log_softmax(logits / truth))


def _cost(logits: Reals, other: Reals, p: Reals) -> Reals:
    rows = np.arange(len(logits))
    cost: Reals = p[rows, logits.argmax(axis=1)] - p[rows, other.argmax(axis=1)]
    return cost


def plans(runs: int) -> list[Row]:
    """How often a fresh set of the planned size decides, after a first look that did not, in percent."""
    rows = []
    for n, lost, gained in (
        (300, 0.004, 0.003),
        (500, 0.008, 0.006),
        (300, 0.025, 0.005),
        (1000, 0.02, 0.015),
    ):
        rng, decided = np.random.default_rng(n), 0
        sizes: list[int] = []
        while len(sizes) < runs:
            x, y, _ = rng.multinomial(n, [lost, gained, 1 - lost - gained]).tolist()
            if abs(float(statistic(np.asarray(float(x)), np.asarray(float(y)), n, DROP))) >= Z:
                continue
            planned = plan_drop(x, y, n, Tolerance(100 * DROP), sequential=False).fresh or 10**6
            sizes.append(planned)
            x, y, _ = rng.multinomial(planned, [lost, gained, 1 - lost - gained]).tolist()
            decided += abs(float(statistic(np.asarray(float(x)), np.asarray(float(y)), planned, DROP))) >= Z
        rows.append(
            {
                "first_look": n,
                "lost": 100 * lost,
                "gained": 100 * gained,
                "median_plan": int(np.median(sizes)),
                "decided": 100 * decided / runs,
            }
        )
    return rows


def tables(runs: int, sizes: Sequence[int] = SIZES) -> dict[str, list[Row]]:
    """All of them."""
    return {
        "single_look": single_looks(sizes),
        "repeated_looks": repeated_looks(runs),
        "copies": copies(max(runs // 4, 10)),
        "expected_drop": expected_drops(max(runs // 10, 10)),
        "plans": plans(max(runs // 20, 10)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="coverage", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the tables as JSON")
    parser.add_argument("--runs", type=int, default=2000, metavar="N", help="of the simulation of looks")
    given = parser.parse_args()
    start = time.perf_counter()
    found = tables(given.runs)
    for name, rows in found.items():
        print(f"\n{name}")
        print("  ".join(rows[0]))
        for row in rows:
            print("  ".join("-" if each is None else f"{each:.4g}" for each in row.values()))
    if given.out is not None:
        content = {"tolerated_drop": 100 * DROP, "confidence": CONFIDENCE, "runs": given.runs, **found}
        given.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
