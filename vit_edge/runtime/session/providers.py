"""Which execution providers there are, and how a short name becomes one.

A provider comes with the installed onnxruntime build, or as a plugin: a wheel with only a shared library,
registered with the stock onnxruntime at run time. Which it is, targets say.
"""

import functools
import importlib
import importlib.util
import re
from typing import Final

import onnxruntime

from vit_edge.errors import ProviderError
from vit_edge.spec import Packaging, ProviderSpec
from vit_edge.targets import SUFFIX, find_target, list_targets, load_target

AUTO: Final = "auto"
CPU = "CPUExecutionProvider"

_SUFFIX = "ExecutionProvider"
# Everything up to the last error code: nested errors repeat it, each with a source file and a signature.
_CODES = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_REMOTE = "AzureExecutionProvider"  # sends tensors to a remote endpoint; never what an edge device wants


@functools.cache
def known_providers() -> dict[str, ProviderSpec]:
    """What the targets that come with vit_edge say about execution providers, by short name."""
    specs = [load_target(name).provider for name in list_targets()]
    return {spec.name: spec for spec in reversed(specs)}


def described(name: str) -> ProviderSpec | None:
    """What a target's own .toml file says about its provider; None for a name that is no such file.

    Raises:
        TargetError: the file is no target.
    """
    return find_target(name).provider if name.endswith(SUFFIX) else None


def installed_providers() -> tuple[str, ...]:
    """Full names of this onnxruntime's local providers, in its order of preference."""
    return tuple(name for name in onnxruntime.get_available_providers() if name != _REMOTE)


def installed_plugins() -> tuple[str, ...]:
    """Short names of the plugins whose wheels are installed; none is loaded for it."""
    specs = known_providers().values()
    return tuple(spec.name for spec in specs if spec.module and importlib.util.find_spec(spec.module))


def short_name(provider: str) -> str:
    """`CPUExecutionProvider` -> `cpu`."""
    return provider.removesuffix(_SUFFIX).lower()


def find_provider(name: str, spec: ProviderSpec | None = None) -> str:
    """The full name of an installed provider; a plugin is registered on the way.

    Args:
        name: short or full.
        spec: what a target says about it; by default what the targets that come with vit_edge say.

    Raises:
        ProviderError: it is not installed, or supports nothing here; the message says what to install.
    """
    wanted = short_name(name) if name.endswith(_SUFFIX) else name.lower()
    spec = spec or known_providers().get(wanted)
    for provider in installed_providers():
        if short_name(provider) == wanted:
            return provider
    if spec is not None and spec.packaging is Packaging.PLUGIN:
        return _registered(spec)
    raise ProviderError(_missing(name, spec.install if spec else "choose one of these"))


def devices_of(provider: str, preferred: tuple[str, ...] = ()) -> list[onnxruntime.OrtEpDevice]:
    """The devices that an accelerator reports, as a plugin does; none for one that is only known by name.

    Args:
        provider: full name.
        preferred: kinds of device ("npu", "gpu", "cpu") that come first, in this order.
    """
    if provider == CPU:
        return []
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    return sorted(devices, key=lambda device: _rank(device.device.type.name.lower(), preferred))


def _rank(kind: str, preferred: tuple[str, ...]) -> int:
    return preferred.index(kind) if kind in preferred else len(preferred)


def _registered(spec: ProviderSpec) -> str:
    """The full name of a plugin, which onnxruntime is told of where it was not."""
    try:
        module = importlib.import_module(str(spec.module))
        provider, library = str(module.get_ep_name()), str(module.get_library_path())
    except ImportError:
        raise ProviderError(_missing(spec.name, spec.install)) from None
    except Exception as error:
        raise ProviderError(f"{spec.package} says nothing about its provider ({cause(error)})") from error
    if devices_of(provider):
        return provider
    try:
        onnxruntime.register_execution_provider_library(provider, library)
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ProviderError(f"{spec.package} cannot be loaded by onnxruntime ({cause(error)})") from error
    if not devices_of(provider):
        raise ProviderError(f"{spec.package} finds no device that it supports on this machine; {_have()}")
    return provider


def _missing(name: str, mend: str) -> str:
    return f"execution provider {name!r} is not installed ({_have()}); {mend}"


def _have() -> str:
    return f"there is {', '.join(map(short_name, installed_providers()))}"


def without_file(session: onnxruntime.InferenceSession) -> onnxruntime.InferenceSession:
    """The session, which keeps the file that it was made of no longer.

    onnxruntime keeps it to fall back to another provider with, which is never asked for here, and it is as
    large as the model.
    """
    session._model_bytes = None
    return session


def cause(error: BaseException) -> str:
    """What a foreign error says in its first line, without onnxruntime's codes, for use inside a sentence."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _CODES.sub("", line).strip().rstrip(".")
