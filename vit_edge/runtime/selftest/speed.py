"""Does the default model run where it is expected to, and as fast as it did on the same machine?"""

import operator
from collections.abc import Mapping, Sequence

import numpy as np

from vit_edge.bundle import Bundle
from vit_edge.errors import VitEdgeError
from vit_edge.manifest import LatencyRecord, Machine
from vit_edge.runtime.device.machine import usable_cores
from vit_edge.runtime.measure.timing import Latency, Rounds, latency, time_interleaved
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.selftest.check import Check, Measured
from vit_edge.runtime.session.providers import short_name
from vit_edge.runtime.session.session import Placement, Session, SessionSettings

SLOWEST = 3.0  # times the recorded latency on the same machine, from which on the latency check fails

_LOST_SHARE = 0.01  # of the nodes: an onnxruntime of another version may count a few more or fewer
_kind = operator.attrgetter("cpu", "cores", "flags", "onnxruntime")  # of a Machine


def check_default(
    bundle: Bundle, provider: str, machine: Machine, rounds: Rounds
) -> tuple[list[Check], Measured | None]:
    """Placement and speed of the model that runs unless another is asked for; nothing if it does not run."""
    try:
        model = read_model(bundle.path)  # the portable file where the default one does not run here
        name = model.path.relative_to(bundle.path).as_posix()
        recorded = _recorded(bundle.manifest.latency, name)
        threads = _threads(recorded)
        session = Session(model, SessionSettings(provider, threads=threads))
        spec = bundle.manifest.preprocess
        pixels = np.zeros((1, spec.height, spec.width, 3), np.uint8)
        times = time_interleaved([lambda: session.outputs(pixels)], rounds)
    except VitEdgeError:
        return [], None  # the check of its answers has told
    placement, taken = session.placement, latency(times[:, 0])
    checks = [
        coverage(bundle.manifest.providers, placement),
        _speed(recorded, taken, placement, machine),
    ]
    return checks, Measured(
        name,
        placement.provider,
        dict(placement.shares),
        threads,
        taken.min_ms,
        taken.median_ms,
        None if recorded is None else recorded.min_ms,
    )


def coverage(expected: Mapping[str, float], placement: Placement) -> Check:
    """The shares of nodes (provider -> 0 to 1) that are expected against where the model was placed."""
    shares = ", ".join(f"{short_name(name)} {share:.1%}" for name, share in placement.shares)
    found = f"nodes run by {shares or 'not recorded by this onnxruntime'} ({placement.reason})"
    share = dict(placement.shares).get(placement.provider)
    wanted = expected.get(placement.provider)
    if share is None or wanted is None:
        recorded = ", ".join(map(short_name, expected)) or "no provider"
        return Check("provider", None, f"{found}; the bundle records {recorded}")
    if share >= wanted - _LOST_SHARE:
        return Check("provider", True, found)
    return Check(
        "provider",
        False,
        f"{found}; {wanted:.1%} are expected of {short_name(placement.provider)}",
        "update the provider's driver and its onnxruntime, or choose another provider",
    )


def _recorded(records: Sequence[LatencyRecord], name: str) -> LatencyRecord | None:
    """The latency record of one model with one image per run, None where there is none."""
    fitting = (each for each in records if each.path == name and each.batch == 1 and each.min_ms > 0)
    return next(fitting, None)


def _threads(recorded: LatencyRecord | None) -> int | None:
    """As many as the figure was taken with, where this machine has as many cores."""
    wanted = None if recorded is None else recorded.threads
    return wanted if wanted is not None and 1 <= wanted <= usable_cores() else None


def _speed(
    recorded: LatencyRecord | None, measured: Latency, placement: Placement, machine: Machine
) -> Check:
    """The smallest latency against the smallest recorded one, as other work on the machine only adds."""
    here = f"at best {measured.min_ms:.2f} ms, median {measured.median_ms:.2f} ms"
    if recorded is None:
        return Check("latency", None, f"{here}; the bundle records no figure")
    ratio = measured.min_ms / recorded.min_ms
    found = f"{here}; {ratio:.2f} times the recorded {recorded.min_ms:.2f} ms"
    if placement.provider not in recorded.providers:
        return Check("latency", None, f"{found}, which another provider took: not judged")
    if recorded.environment is None or _kind(recorded.environment) != _kind(machine):
        return Check("latency", None, f"{found} of another machine ({recorded.machine}): not judged")
    if ratio <= SLOWEST:
        return Check("latency", True, f"{found} of this machine")
    return Check(
        "latency",
        False,
        f"{found} of this machine, more than {SLOWEST:g}",
        "see whether other work, a power limit or heat slows the machine, and test again",
    )
