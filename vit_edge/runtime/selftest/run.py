"""The self-test of one bundle: its files, the onnxruntime, the answers of its models, and their speed."""

from collections.abc import Sequence
from pathlib import Path

from vit_edge.bundle import Bundle, read_manifest
from vit_edge.errors import BundleError
from vit_edge.golden import read_golden
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.selftest.answers import check_answers, check_integers
from vit_edge.runtime.selftest.check import Check, Measured, SelfTest
from vit_edge.runtime.selftest.speed import check_default
from vit_edge.runtime.session.providers import AUTO, find_provider
from vit_edge.runtime.session.wheels import describe_clash, onnxruntime_wheels
from vit_edge.signing import check_signature
from vit_edge.source_parity import ProofState, SourceParity

ROUNDS = Rounds(at_least=20, seconds=1.0)

_FETCH_AGAIN = "fetch the bundle again"
_FIRST = ("signature", "files")  # checks without which no model is run


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
    integers, arithmetic = check_integers(provider)
    measured: Measured | None = None
    checks = [_files(bundle), _wheels(), _source(bundle.manifest.source_parity), integers]
    if trust is not None:
        checks.insert(0, _signature(bundle, trust))
    if all(check.passed for check in checks if check.name in _FIRST):
        cases = read_golden(bundle)
        checks += [
            check_answers(bundle, name, [case for case in cases if case.model == name], provider)
            for name in _chosen(bundle, models)
        ]
        if bundle.manifest.default_model in _chosen(bundle, models):
            more, measured = check_default(bundle, provider, machine, rounds)
            checks += more
    return SelfTest(bundle.path, bundle.sha256, tuple(checks), machine, arithmetic, measured)


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
