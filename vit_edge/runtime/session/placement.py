"""From a model file to a session of onnxruntime, on the provider that was asked for and on no other."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import onnxruntime

from vit_edge.errors import ModelError, ProviderError, UsageError
from vit_edge.runtime.device.machine import may_saturate
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.own_kernels import kernels_library
from vit_edge.runtime.session.contexts import (
    Context,
    ContextKey,
    Shares,
    compiling,
    read_context,
    versioned,
    write_context,
)
from vit_edge.runtime.session.providers import (
    AUTO,
    CPU,
    cause,
    described,
    devices_of,
    find_provider,
    installed_plugins,
    installed_providers,
    known_providers,
    short_name,
    without_file,
)
from vit_edge.runtime.session.wheels import with_clash
from vit_edge.spec import ProviderSpec, session_options

MOST_THREADS = 1024
_EXACT, _SIGNED = "session.x64quantprecision", "session.qdqisint8allowed"
_SPINS, _SPIN_FOR = "session.intra_op.allow_spinning", "session.intra_op.spin_duration_us"
# Longer than the gaps between operators, so that a machine of one's own loses nothing; where something else
# wants the cores, threads that wait longer give theirs up. onnxruntime 1.24 ignores it.
_BRIEFLY_US = "20"
_LOG_ERRORS = 3  # onnxruntime's severity; its warnings are about its own optimisations


@dataclasses.dataclass(frozen=True)
class SessionSettings:
    """How to run a model.

    Raises:
        UsageError: a value that onnxruntime could not honour.
    """

    # Short or full name, or a target's .toml file; auto takes the first that works, in onnxruntime's order.
    provider: str = AUTO
    provider_options: tuple[tuple[str, str], ...] = ()  # for the provider that is named, over its target's
    # Within one operator; None leaves it to onnxruntime (one per physical core), auto measures it.
    threads: int | Literal["auto"] | None = None
    spinning: bool | None = None  # whether idle threads spin; None: briefly, or as the model file says
    options: tuple[
        tuple[str, str], ...
    ] = ()  # spec.SESSION_OPTIONS entries; they win over those in the model file
    trace: Path | None = None  # where onnxruntime's own profile goes, as a file name to begin with

    def __post_init__(self) -> None:
        """Check what onnxruntime would ignore or refuse late."""
        if self.provider is None:
            object.__setattr__(self, "provider", AUTO)
        if not isinstance(self.provider, str):
            raise UsageError(f"provider must be the name of an execution provider, got {self.provider!r}")
        if self.threads not in (None, AUTO) and not _is_thread_count(self.threads):
            raise UsageError(f"threads must be from 1 to {MOST_THREADS}, or auto; got {self.threads!r}")
        if self.provider_options and self.provider.lower() == AUTO:
            raise UsageError("provider_options need a named provider, auto may take any")
        try:
            session_options(dict(self.options))
        except ValueError as error:
            raise UsageError(str(error)) from None


def _is_thread_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_THREADS


DEFAULT_SETTINGS = SessionSettings()


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a model really runs."""

    provider: str  # full name of the first provider of the session
    reason: str  # why this one
    shares: Shares  # (provider, share of graph nodes before fusion or compilation), largest first

    def __str__(self) -> str:
        shares = ", ".join(f"{short_name(name)} {share:.1%}" for name, share in self.shares)
        return (
            f"{self.provider} ({self.reason}); share of nodes: {shares or 'not recorded by this onnxruntime'}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A session, and where it runs."""

    session: onnxruntime.InferenceSession
    placement: Placement


def open_session(model: ModelFile, settings: SessionSettings) -> Opened:
    """Load a model into onnxruntime.

    A provider that compiles models for its device finds the compiled form in the user's cache folder from the
    second time on.

    Raises:
        ModelError: onnxruntime refuses the model.
        ProviderError: the requested provider is not installed, or did not take the model.
        TargetError: the provider is named by a file that is no target.
    """
    opened = _opened_as_asked(model, settings)
    if model.instead_of is None:
        return opened
    place = opened.placement
    return Opened(opened.session, dataclasses.replace(place, reason=f"{place.reason}; {model.instead_of}"))


def _opened_as_asked(model: ModelFile, settings: SessionSettings) -> Opened:
    if settings.provider.lower() == AUTO:
        return _first_that_works(model, settings)
    spec = described(settings.provider)
    try:
        provider = find_provider(spec.name if spec else settings.provider, spec)
        return _opened(model, settings, provider, spec, "requested")
    except ProviderError as error:
        raise ProviderError(with_clash(str(error))) from error


def _first_that_works(model: ModelFile, settings: SessionSettings) -> Opened:
    passed_over: list[str] = []
    for provider in installed_providers():
        if provider == CPU:
            break
        because = "; ".join(["auto: first that works", *passed_over])
        try:
            return _opened(model, settings, provider, None, because)
        except (ModelError, ProviderError) as error:
            passed_over.append(f"{short_name(provider)} passed over: {error}")
    # A plugin may be a simulator, or slower than the CPU, so it is for the user to name it.
    passed_over += [f"{name} is installed, name it to use it" for name in installed_plugins()]
    return _opened(model, settings, CPU, None, "; ".join(["auto: no accelerator", *passed_over]))


def _opened(
    model: ModelFile, settings: SessionSettings, provider: str, spec: ProviderSpec | None, reason: str
) -> Opened:
    spec = spec or known_providers().get(short_name(provider))
    place = _Place.of(provider, spec, settings)
    if spec is None or not spec.contexts:
        session = _open(model, settings, place)
        return Opened(session, Placement(provider, reason, _checked(session, provider, model)))
    key = place.key(model, settings, spec)
    kept = read_context(key)
    if kept is not None:
        with contextlib.suppress(ProviderError):  # a compiled model that the device refuses is made again
            session = _open(dataclasses.replace(model, data=kept.data), settings, place)
            return Opened(session, Placement(provider, reason, kept.shares))
    with compiling() as (entries, compiled):
        session = _open(model, settings, place, entries)
        shares = _checked(session, provider, model)
        data = compiled()
    if data is not None:
        write_context(key, Context(data, shares))
    return Opened(session, Placement(provider, reason, shares))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a session runs."""

    provider: str  # full name
    devices: tuple[onnxruntime.OrtEpDevice, ...]  # empty for a provider that is known by name only
    options: tuple[tuple[str, str], ...]  # of the provider

    @classmethod
    def of(cls, provider: str, spec: ProviderSpec | None, settings: SessionSettings) -> "_Place":
        devices = devices_of(provider, spec.devices if spec else ())[:1]
        options = dict(spec.options if spec else ()) | dict(settings.provider_options)
        return cls(provider, tuple(devices), tuple(sorted(options.items())))

    def key(self, model: ModelFile, settings: SessionSettings, spec: ProviderSpec) -> ContextKey:
        kinds = [f"{each.device.vendor} {each.device.type.name}" for each in self.devices]
        return ContextKey(
            model=model.sha256,
            provider=self.provider,
            device=", ".join(kinds),
            provider_options=self.options,
            session_options=tuple(sorted({**dict(model.session_options), **dict(settings.options)}.items())),
            package=versioned(spec.package),
        )


def _open(
    model: ModelFile, settings: SessionSettings, place: _Place, entries: Mapping[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """A session of onnxruntime; `entries` are more of its config entries."""
    provider, options = place.provider, dict(place.options)
    try:
        session_options = _session_options(model, settings, provider == CPU)
        for key, value in (entries or {}).items():
            session_options.add_session_config_entry(key, value)
        if place.devices:
            session_options.add_provider_for_devices(list(place.devices), options)
        names = [] if place.devices else list(dict.fromkeys([provider, CPU]))
        session = onnxruntime.InferenceSession(
            model.data,
            session_options,
            # A plugin is named through its devices; naming providers as well would override them.
            providers=[(name, options if name == provider else {}) for name in names] or None,
            enable_fallback=0,  # onnxruntime would print a banner and quietly run on the CPU
            read_config_from_model=0,  # only entries that read_model has checked
        )
        return without_file(session)
    except Exception as error:  # onnxruntime's exceptions share no base
        if provider != CPU:
            raise ProviderError(
                f"{short_name(provider)} cannot load {model.path} ({cause(error)})"
            ) from error
        raise ModelError(f"{model.path} cannot be loaded by onnxruntime ({cause(error)})") from error


def _checked(session: onnxruntime.InferenceSession, provider: str, model: ModelFile) -> Shares:
    """The share of each provider.

    Raises:
        ProviderError: onnxruntime left the provider out.
    """
    if session.get_providers()[0] != provider:
        raise ProviderError(
            f"execution provider {short_name(provider)!r} is installed but did not take {model.path}, "
            f"{short_name(session.get_providers()[0])} did; check its driver and libraries"
        )
    shares = _shares(session)
    if shares and provider not in dict(shares):
        raise ProviderError(
            f"execution provider {short_name(provider)!r} takes no node of {model.path}, all run on "
            f"{', '.join(short_name(name) for name, _ in shares)}; use a model file that is made for it"
        )
    return shares


def as_this_cpu_needs(options: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The session options of a file: exact kernels, where it asks for them, only where others would saturate.

    They take half as long again, also where the CPU needs none of them; and unsigned operands only.
    """
    entries = dict(options)
    if entries.get(_EXACT) == "1":
        entries |= {_SIGNED: "0"} if may_saturate() else {_EXACT: "0"}
    return entries


def _session_options(model: ModelFile, settings: SessionSettings, on_cpu: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    options.enable_mem_reuse = not on_cpu  # memory that the cache has lost: a fixed batch took 4 % longer
    if model.own_kernels:
        options.register_custom_ops_library(kernels_library())
    if settings.trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.trace)
    if isinstance(settings.threads, int):
        options.intra_op_num_threads = settings.threads
    entries = {
        "session.record_ep_graph_assignment_info": "1",
        "session.load_model_format": "ONNX",  # what the header was read as, whatever else the bytes look like
        **as_this_cpu_needs(model.session_options),
    }
    if settings.spinning is not None:
        entries[_SPINS] = str(int(settings.spinning))
    entries |= dict(settings.options)
    if _SPINS not in entries:
        entries[_SPIN_FOR] = _BRIEFLY_US
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _shares(session: onnxruntime.InferenceSession) -> Shares:
    if not hasattr(session, "get_provider_graph_assignment_info"):  # onnxruntime before it was introduced
        return ()
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    total = sum(counts.values())
    return tuple((name, counts[name] / total) for name in sorted(counts, key=lambda name: -counts[name]))
