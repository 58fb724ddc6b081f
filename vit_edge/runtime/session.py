"""A loaded model: uint8 pixels in, float32 logits out, on the provider that was asked for."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime

from vit_edge.errors import ModelError, ProviderError, UsageError
from vit_edge.runtime.model import ModelFile
from vit_edge.runtime.preprocess import normalize, require_pixels
from vit_edge.runtime.providers import (
    AUTO,
    CPU,
    cause,
    devices_of,
    find_provider,
    installed_providers,
    short_name,
)
from vit_edge.spec import InputForm, session_options

_LOG_ERRORS = 3  # onnxruntime's severity; its warnings are about its own optimisations


@dataclasses.dataclass(frozen=True)
class SessionSettings:
    """How to run a model.

    Raises:
        UsageError: a value that onnxruntime could not honour.
    """

    provider: str = AUTO  # short or full name; auto takes the first that works, in onnxruntime's order
    provider_options: tuple[tuple[str, str], ...] = ()  # for the provider that is named
    threads: int | None = None  # within one operator; None leaves it to onnxruntime (one per physical core)
    spinning: bool | None = None  # whether idle threads spin; None leaves it to the model file or onnxruntime
    options: tuple[
        tuple[str, str], ...
    ] = ()  # spec.SESSION_OPTIONS entries; they win over those in the model file

    def __post_init__(self) -> None:
        """Check what onnxruntime would ignore or refuse late."""
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise UsageError(f"threads must be from 1 to 1024, got {self.threads}")
        if self.provider_options and self.provider.lower() == AUTO:
            raise UsageError("provider_options need a named provider, auto may take any")
        try:
            session_options(dict(self.options))
        except ValueError as error:
            raise UsageError(str(error)) from None


DEFAULT_SETTINGS = SessionSettings()


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a model really runs."""

    provider: str  # full name of the first provider of the session
    reason: str  # why this one
    shares: tuple[tuple[str, float], ...]  # (provider, share of graph nodes before fusion), largest first

    def __str__(self) -> str:
        shares = ", ".join(f"{short_name(name)} {share:.1%}" for name, share in self.shares)
        return (
            f"{self.provider} ({self.reason}); share of nodes: {shares or 'not recorded by this onnxruntime'}"
        )


class Session:
    """A model loaded into onnxruntime, from the checked bytes and never from the path.

    Args:
        model: from `read_model`.
        settings: provider, threads and session options.

    Raises:
        ModelError: onnxruntime refuses the model, or the model takes normalised input and does not say how.
        ProviderError: the requested provider is not installed, or did not take the session.
    """

    def __init__(self, model: ModelFile, settings: SessionSettings = DEFAULT_SETTINGS) -> None:
        if model.form is InputForm.PIXEL_VALUES and model.preprocess is None:
            raise ModelError(
                f"{model.path} takes normalised pixel_values but has no vit_edge.preprocess metadata; "
                "export it with vit-edge or set ModelFile.preprocess"
            )
        self.model = model
        self.settings = settings
        if settings.provider.lower() == AUTO:
            self._session, reason = _first_that_works(model, settings)
        else:
            self._session = _create(model, settings, find_provider(settings.provider))
            reason = "requested"
        self.placement = Placement(self._session.get_providers()[0], reason, _shares(self._session))

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of a batch of any size; a model of fixed batch size is fed in chunks.

        Args:
            pixels: uint8 (N, H, W, 3), RGB, resized and cropped to the model's size.

        Returns:
            float32 (N, C).

        Raises:
            UsageError: the pixels have another dtype or shape.
            ModelError: onnxruntime fails, or gives logits of another shape or that are not finite.
        """
        require_pixels(pixels)
        if self.model.size is not None and pixels.shape[1:3] != self.model.size:
            raise UsageError(f"{self.model.path} takes {self.model.size} pixels, got {pixels.shape[1:3]}")
        if len(pixels) == 0:
            return np.empty((0, self.model.classes or 0), np.float32)
        return np.concatenate(
            [self._run_chunk(chunk)[:count] for chunk, count in _chunks(pixels, self.model.batch)]
        )

    def _run_chunk(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self.model.form is InputForm.PIXELS:
            feed: npt.NDArray[np.generic] = np.ascontiguousarray(pixels)
        else:
            assert self.model.preprocess is not None  # noqa: S101  the constructor has refused this
            feed = normalize(pixels, self.model.preprocess)
        try:
            logits = self._session.run(["logits"], {self.model.form.value: feed})[0]
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{self.model.path} fails in onnxruntime ({cause(error)})") from error
        if logits.ndim != 2 or len(logits) != len(pixels):
            raise ModelError(
                f"{self.model.path} gives logits of shape {logits.shape} for {len(pixels)} images"
            )
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{self.model.path} gives logits that are not finite; check the export with vit-edge compare"
            )
        return np.asarray(logits, np.float32)


def _chunks(pixels: npt.NDArray[np.uint8], batch: int | None) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """(chunk of the model's batch size, how many rows of it are real)."""
    if batch is None:
        yield pixels, len(pixels)
        return
    for start in range(0, len(pixels), batch):
        chunk = pixels[start : start + batch]
        missing = batch - len(chunk)
        # Repeating a real image keeps the range of the batch, should the model quantize dynamically.
        padding = np.repeat(chunk[-1:], missing, axis=0)
        yield (np.concatenate([chunk, padding]) if missing else chunk), len(chunk)


def _first_that_works(
    model: ModelFile, settings: SessionSettings
) -> tuple[onnxruntime.InferenceSession, str]:
    passed_over: list[str] = []
    for provider in installed_providers():
        if provider == CPU:
            break
        try:
            session = _create(model, settings, provider)
        except (ModelError, ProviderError) as error:
            passed_over.append(f"{short_name(provider)} passed over: {error}")
            continue
        return session, "; ".join(["auto: first that works", *passed_over])
    return _create(model, settings, CPU), "; ".join(["auto: no accelerator", *passed_over])


def _create(model: ModelFile, settings: SessionSettings, provider: str) -> onnxruntime.InferenceSession:
    try:
        options = _session_options(model, settings)
        devices = devices_of(provider)[:1]
        provider_options = dict(settings.provider_options)
        if devices:
            options.add_provider_for_devices(devices, provider_options)
        names = [] if devices else list(dict.fromkeys([provider, CPU]))
        session = onnxruntime.InferenceSession(
            model.data,
            options,
            # A plugin is named through its devices; naming providers as well would override them.
            providers=[(name, provider_options if name == provider else {}) for name in names] or None,
            enable_fallback=0,  # onnxruntime would print a banner and quietly run on the CPU
            read_config_from_model=0,  # only entries that read_model has checked
        )
    except Exception as error:  # onnxruntime's exceptions share no base
        if provider != CPU:
            raise ProviderError(
                f"{short_name(provider)} cannot load {model.path} ({cause(error)})"
            ) from error
        raise ModelError(f"{model.path} cannot be loaded by onnxruntime ({cause(error)})") from error
    if session.get_providers()[0] != provider:
        raise ProviderError(
            f"execution provider {short_name(provider)!r} is installed but did not take {model.path}, "
            f"{short_name(session.get_providers()[0])} did; check its driver and libraries"
        )
    shares = dict(_shares(session))
    if shares and provider not in shares:
        raise ProviderError(
            f"execution provider {short_name(provider)!r} takes no node of {model.path}, all run on "
            f"{', '.join(map(short_name, shares))}; use a model file that is made for it"
        )
    return session


def _session_options(model: ModelFile, settings: SessionSettings) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    entries = {"session.record_ep_graph_assignment_info": "1", **dict(model.session_options)}
    if settings.spinning is not None:
        entries["session.intra_op.allow_spinning"] = str(int(settings.spinning))
    for key, value in (entries | dict(settings.options)).items():
        options.add_session_config_entry(key, value)
    return options


def _shares(session: onnxruntime.InferenceSession) -> tuple[tuple[str, float], ...]:
    if not hasattr(session, "get_provider_graph_assignment_info"):  # onnxruntime before it was introduced
        return ()
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    total = sum(counts.values())
    return tuple((name, counts[name] / total) for name in sorted(counts, key=lambda name: -counts[name]))
