"""How many threads are fastest for a model on this machine, measured once and remembered.

Threads that wait by spinning answer sooner; but where something else wants the cores too, threads that wait
for one another keep them busy, and two can be slower than one. No rule knows in advance which case it is.
"""

import dataclasses
import hashlib
import json
from typing import Self

import numpy as np

from vit_edge import fields
from vit_edge.runtime.device.lock import Lock
from vit_edge.runtime.device.machine import describe_machine, usable_cores
from vit_edge.runtime.device.user_cache import read_cached, write_cached
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.timing import Milliseconds, Rounds, time_interleaved
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.providers import CPU, installed_providers
from vit_edge.runtime.session.session import Session, SessionSettings

ROUNDS = Rounds(at_least=8, seconds=1.0)
CLEARLY_FASTER = 0.95  # of the default's latency, in three rounds of four
ABOUT_THE_SAME = 1.03  # times the best latency; what needs less of the machine is then preferred

# Two measurements at a time would each find a busy machine.
_measuring = Lock()


@dataclasses.dataclass(frozen=True)
class Threading:
    """How one operator is spread over threads; None leaves it to the model file and onnxruntime."""

    threads: int | None = None
    spinning: bool | None = None

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `dataclasses.asdict` gave.

        Raises:
            ValueError: an unknown or missing key, or a value of the wrong type.
        """
        values = fields.exact_keys(raw, frozenset({"threads", "spinning"}), "threading")
        threads, spinning = values["threads"], values["spinning"]
        return cls(
            None if threads is None else fields.integer(threads, "threads", 1, usable_cores()),
            None if spinning is None else fields.boolean(spinning, "spinning"),
        )


DEFAULT = Threading()


def tuned(model: ModelFile, settings: SessionSettings) -> SessionSettings:
    """The settings with the threads that are fastest for single images on this machine.

    Measured for about a second when a model is first used, and kept in the user's cache folder under the
    model's bytes, the machine, onnxruntime's version and the other settings; delete the folder `threads`
    there to measure again. The default stays unless something else is clearly faster, and wherever it is not
    the CPU that runs the model.

    Args:
        model: from `read_model`.
        settings: what is stated in them beside the threads stands.

    Raises:
        ModelError: the model cannot be loaded or run.
        ProviderError: as in `Session`.
    """
    plain = dataclasses.replace(settings, threads=None, trace=None)
    name = f"threads/{_key(model, plain)}.json"
    with _measuring:
        found = _remembered(name)
        if found is None:
            found = _fastest(model, plain)
            write_cached(name, json.dumps(dataclasses.asdict(found)).encode())
    return _applied(found, settings)


def candidates(cores: int, spinning: bool | None) -> list[Threading]:
    """What is tried: the default first, then one thread, then more, each with and without spinning.

    Args:
        cores: the most threads; up to 4 each number is tried, then two for each doubling.
        spinning: whether it is stated already.
    """
    counts = {count for power in range(11) for count in (2**power, 3 * 2**power) if count <= cores} | {cores}
    ways = (False, True) if spinning is None else (spinning,)
    several = [Threading(count, way) for count in sorted(counts - {1}) for way in ways]
    return [Threading(None, spinning), Threading(1, spinning), *several]


def choose(tried: list[Threading], times: Milliseconds) -> Threading:
    """The fastest, of those about as fast the one that needs least; the default if none is clearly faster.

    Args:
        tried: as from `candidates`, the default first.
        times: (rounds, len(tried)) float64, ms.
    """
    ratios = times / times[:, :1]
    clearly = np.flatnonzero(np.percentile(ratios, 75, axis=0) <= CLEARLY_FASTER)
    if not clearly.size:
        return tried[0]
    medians = np.median(ratios, axis=0)
    bound = ABOUT_THE_SAME * medians[clearly].min()
    near = [tried[index] for index in clearly if medians[index] <= bound]
    return min(near, key=lambda each: (bool(each.spinning), each.threads or 0))


def _fastest(model: ModelFile, settings: SessionSettings) -> Threading:
    first = Session(model, settings)
    cores = usable_cores()
    size = model.input_size
    if cores == 1 or size is None or first.placement.provider != CPU:
        return DEFAULT
    tried = candidates(cores, settings.spinning)
    sessions = [first, *(Session(model, _applied(each, settings)) for each in tried[1:])]
    pixels = random_pixels(1, size)
    runs = [lambda session=session: session.outputs(pixels) for session in sessions]
    return choose(tried, time_interleaved(runs, ROUNDS))


def _applied(found: Threading, settings: SessionSettings) -> SessionSettings:
    spinning = found.spinning if settings.spinning is None else settings.spinning
    return dataclasses.replace(settings, threads=found.threads, spinning=spinning)


def _remembered(name: str) -> Threading | None:
    data = read_cached(name, most=1000)
    try:
        return None if data is None else Threading.from_json(fields.parse_json(data, name))
    except ValueError:
        return None


def _key(model: ModelFile, settings: SessionSettings) -> str:
    """Names everything that the measurement depends on."""
    depends = (model.sha256, describe_machine().to_json(), installed_providers(), repr(settings))
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
