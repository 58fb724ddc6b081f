"""Does a bundle work on this device as it did where it was built?

A wrong kernel, integers that saturate on an older CPU, a driver that computes something else, two onnxruntime
wheels in one environment, a file damaged on the way: none of them need raise an error, and each shows here.
"""

import dataclasses
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from vit_edge.bundle import Bundle, Role, read_manifest
from vit_edge.errors import BundleError, VitEdgeError
from vit_edge.golden import GoldenCase, held_to, read_golden
from vit_edge.manifest import LatencyRecord, Machine
from vit_edge.runtime.device.machine import describe_machine, usable_cores
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
from vit_edge.runtime.measure.timing import Latency, Rounds, latency, time_interleaved
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.arithmetic import arithmetic_of
from vit_edge.runtime.session.providers import AUTO, find_provider, short_name
from vit_edge.runtime.session.session import Placement, Session, SessionSettings
from vit_edge.runtime.session.wheels import describe_clash, onnxruntime_wheels
from vit_edge.signing import check_signature
from vit_edge.source_parity import ProofState, SourceParity
from vit_edge.spec import Arithmetic

SLOWEST = 3.0  # times the recorded latency on the same machine, from which on the latency check fails
ROUNDS = Rounds(at_least=20, seconds=1.0)

_LOST_SHARE = 0.01  # of the nodes: an onnxruntime of another version may count a few more or fewer
_FETCH_AGAIN = "fetch the bundle again"
_FIRST = ("signature", "files")  # checks without which no model is run
_ADDED = {
    Arithmetic.EXACT: "exact: every product is added in 32 bits",
    Arithmetic.SATURATING: "saturating: pairs of uint8 x int8 products are added in 16 bits and may overflow",
}
_kind = operator.attrgetter("cpu", "cores", "flags", "onnxruntime")  # of a Machine


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool | None  # None: there was nothing to judge by, `found` says why
    found: str
    mend: str | None = None  # what to do about a failure

    def to_json(self) -> dict[str, Any]:
        """The stable keys of one entry of `checks`."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """All checks of one bundle on one device."""

    bundle: Path
    checks: tuple[Check, ...]
    machine: Machine

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge selftest --json`."""
        return {
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
            "machine": self.machine.to_json(),
        }


def selftest(
    path: str | Path,
    provider: str | None = AUTO,
    models: Sequence[str] = (),
    rounds: Rounds = ROUNDS,
    trust: str | Path | None = None,
) -> SelfTest:
    """Check a bundle on this device: its files, the onnxruntime, the answers of its models, and their speed.

    Args:
        path: the bundle's folder.
        provider: execution provider that runs the models, by its short or full name.
        models: paths in the bundle of the models to run; by default all of them.
        rounds: how long to time the default model.
        trust: a public key whose owner must have signed the bundle; no model runs if that is not so.

    Returns:
        The checks, whether they passed or not. Slowness fails on the machine of the recorded figure only.

    Raises:
        BundleError: no bundle, a malformed manifest or golden file, or a model that the bundle does not have.
        ProviderError: the provider is not installed.
    """
    provider = AUTO if provider is None else provider
    if provider.lower() != AUTO:
        find_provider(provider)
    bundle = read_manifest(path)
    machine = describe_machine()
    checks = [_files(bundle), _wheels(), _source(bundle.manifest.source_parity), _integers(provider)]
    if trust is not None:
        checks.insert(0, _signature(bundle, trust))
    if all(check.passed for check in checks if check.name in _FIRST):
        cases = read_golden(bundle)
        checks += [
            _model(bundle, name, [case for case in cases if case.model == name], provider)
            for name in _chosen(bundle, models)
        ]
        if bundle.manifest.default_model in _chosen(bundle, models):
            checks += _default(bundle, provider, machine, rounds)
    return SelfTest(bundle.path, tuple(checks), machine)


def _chosen(bundle: Bundle, models: Sequence[str]) -> list[str]:
    known = [*bundle.models(), *bundle.embedders()]
    unknown = [name for name in models if name not in known]
    if unknown:
        raise BundleError(f"{bundle.path} has no model {unknown[0]!r}; its models are {', '.join(known)}")
    return [name for name in known if not models or name in models]


def _files(bundle: Bundle) -> Check:
    damage: list[str] = []
    for name in bundle.manifest.files:
        try:
            bundle.read(name)
        except BundleError as error:
            damage.append(str(error))
    count = len(bundle.manifest.files)
    if damage:
        return Check("files", False, f"{len(damage)} of {count}: {damage[0]}", _FETCH_AGAIN)
    size = sum(entry.size for entry in bundle.manifest.files.values())
    return Check("files", True, f"{count} files, {size / 1e6:.1f} MB, every SHA-256 as recorded")


def _signature(bundle: Bundle, key: str | Path) -> Check:
    try:
        signed = check_signature(bundle, key)
    except BundleError as error:
        return Check("signature", False, str(error), _FETCH_AGAIN)
    return Check("signature", True, f"{signed.files} files as signed by the owner of {key}")


def _wheels() -> Check:
    wheels = onnxruntime_wheels()
    clash = describe_clash(wheels)
    if clash is not None:
        found, _, mend = clash.partition("; ")
        return Check("onnxruntime", False, found, mend)
    if not wheels:
        return Check("onnxruntime", None, "installed by no wheel, so it cannot be told whether it is whole")
    return Check("onnxruntime", True, f"{wheels[0]}, the only wheel of it here")


def _source(parity: SourceParity) -> Check:
    """What was found where the bundle was built, as a device cannot run the source."""
    passed = {ProofState.PROVEN: True, ProofState.DIFFERS: False, ProofState.NOT_PROVEN: None}[parity.state]
    mend = "build it again; `vit-edge parity` shows the images that differ"
    return Check("source to float", passed, str(parity), None if passed is not False else mend)


def _integers(provider: str) -> Check:
    """How this device adds integer products, which its answers are held to."""
    try:
        found = arithmetic_of(SessionSettings(provider))
    except VitEdgeError as error:
        return Check("integer products", None, f"could not be tried: {error}")
    if found is not None:
        return Check("integer products", True, _ADDED[found])
    mend = "use another provider or another onnxruntime, or a float model of the bundle"
    return Check("integer products", False, "they are neither exact nor saturating, but wrong", mend)


def _model(bundle: Bundle, name: str, cases: Sequence[GoldenCase], provider: str) -> Check:
    """One model's answers to the golden inputs, or that it runs at all where none are recorded."""
    title = f"answers of {name}"
    settings = SessionSettings(provider)
    try:
        model = read_model(bundle.path, name)
        session = Session(model, settings)
        if not cases:
            spec = bundle.manifest.preprocess
            session.outputs(np.zeros((1, spec.height, spec.width, 3), np.uint8))
            return Check(title, None, "it runs; the bundle records no answers of it to compare with")
        integer = bundle.manifest.files[name].role not in (Role.FLOAT, Role.EMBEDDER_FLOAT)
        mine = arithmetic_of(settings, model) if integer else None
        held, recorded = held_to(cases, mine)
        worst = max(_distances(bundle, held, session), key=lambda each: each[2])
    except VitEdgeError as error:
        return Check(title, False, str(error), "use another model of the bundle, or another provider")
    difference, allowed, _ = worst
    images = len({case.image for case in held})
    outputs = ", ".join(dict.fromkeys(case.output for case in held))
    found = f"{images} images, {outputs} off by at most {difference:.2g} of {allowed:.2g} allowed"
    found += _in(recorded, mine)
    if difference <= allowed:
        return Check(title, True, found)
    return Check(title, False, found, _numeric_mend(mine, session))


def _in(recorded: Arithmetic | None, mine: Arithmetic | None) -> str:
    """Which arithmetic the answers that were held to are of."""
    if recorded is None:
        return ""
    if recorded is mine:
        return f" in {recorded.value} arithmetic"
    here = "unknown" if mine is None else mine.value
    return f" in {recorded.value} arithmetic, the only one recorded; this device's is {here}"


def _distances(
    bundle: Bundle, cases: Sequence[GoldenCase], session: Session
) -> Iterator[tuple[float, float, float]]:
    """For each case what `_distance` gives; the model runs once per image."""
    by_image = operator.attrgetter("image")
    spec = bundle.manifest.preprocess
    limits = DecodeLimits(max_pixels=spec.height * spec.width, formats=(ImageFormat.PNG,))
    for image, group in itertools.groupby(sorted(cases, key=by_image), by_image):
        made = session.outputs(np.asarray(decode(bundle.read(image), limits))[None])
        yield from (_distance(case, made) for case in group)


def _distance(case: GoldenCase, made: Mapping[str, npt.NDArray[np.float32]]) -> tuple[float, float, float]:
    """(largest difference of a value, what is allowed, how much it is beyond that)."""
    if case.output not in made:
        raise BundleError(f"{case.model} gives no {case.output}, of which values are recorded")
    values = made[case.output][0]
    if len(values) != len(case.values):
        raise BundleError(
            f"{case.model} gives {len(values)} {case.output} where {len(case.values)} are recorded"
        )
    difference = float(np.abs(values - np.asarray(case.values)).max())
    return difference, case.tolerance, difference - case.tolerance


def _numeric_mend(arithmetic: Arithmetic | None, session: Session) -> str:
    if arithmetic is Arithmetic.SATURATING:
        return (
            "the integer products of this device saturate: use a model of the bundle that passes, "
            "or build the bundle again, whose portable file allows for that"
        )
    ran = short_name(session.placement.provider)
    return (
        f"{ran} of onnxruntime {onnxruntime.__version__} computes something else than where the bundle was "
        "built: use a model of the bundle that passes, another provider or another onnxruntime"
    )


def _default(bundle: Bundle, provider: str, machine: Machine, rounds: Rounds) -> list[Check]:
    """Placement and speed of the model that runs unless another is asked for."""
    name = bundle.manifest.default_model
    recorded = _recorded(bundle.manifest.latency, name)
    try:
        settings = SessionSettings(provider, threads=_threads(recorded))
        session = Session(read_model(bundle.path, name), settings)
        spec = bundle.manifest.preprocess
        pixels = np.zeros((1, spec.height, spec.width, 3), np.uint8)
        times = time_interleaved([lambda: session.run(pixels)], rounds)
    except VitEdgeError:
        return []  # the check of its answers has told
    return [
        _coverage(bundle.manifest.providers, session.placement),
        _speed(recorded, latency(times[:, 0]), session.placement, machine),
    ]


def _coverage(expected: Mapping[str, float], placement: Placement) -> Check:
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
