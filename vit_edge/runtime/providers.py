"""Which execution providers there are, and how a short name becomes one.

A provider comes with the installed onnxruntime build (CUDA, DirectML, CoreML ...) or as a plugin: a wheel
with only a shared library, registered with the stock onnxruntime at run time.
"""

import dataclasses
import importlib
import re

import onnxruntime

from vit_edge.errors import ProviderError

AUTO = "auto"
CPU = "CPUExecutionProvider"

_SUFFIX = "ExecutionProvider"
# Everything up to the last error code: nested errors repeat it, each with a source file and a signature.
_CODES = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_REMOTE = "AzureExecutionProvider"  # sends tensors to a remote endpoint; never what an edge device wants


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A provider that is a wheel of its own beside onnxruntime."""

    wheel: str  # PyPI distribution
    module: str  # has get_library_path() and get_ep_name()


PLUGINS = {
    "openvino": Plugin("onnxruntime-ep-openvino", "onnxruntime_ep_openvino"),
    "qnn": Plugin("onnxruntime-qnn", "onnxruntime_qnn"),
    "webgpu": Plugin("onnxruntime-ep-webgpu", "onnxruntime_ep_webgpu"),
}

# onnxruntime builds that replace the stock wheel.
BUILDS = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "dml": "onnxruntime-directml",
}


def installed_providers() -> tuple[str, ...]:
    """Full names of this onnxruntime build's local providers, in its order of preference."""
    return tuple(name for name in onnxruntime.get_available_providers() if name != _REMOTE)


def short_name(provider: str) -> str:
    """`CUDAExecutionProvider` -> `cuda`."""
    return provider.removesuffix(_SUFFIX).lower()


def find_provider(name: str) -> str:
    """The full name of an installed provider, from its short or full name; a plugin is registered on the way.

    Raises:
        ProviderError: it is not installed; the message says what is, and what to install.
    """
    wanted = short_name(name) if name.endswith(_SUFFIX) else name.lower()
    for provider in installed_providers():
        if short_name(provider) == wanted:
            return provider
    if wanted in PLUGINS:
        return _register(wanted, PLUGINS[wanted])
    have = ", ".join(map(short_name, installed_providers()))
    build = BUILDS.get(wanted)
    mend = f"run: pip uninstall onnxruntime && pip install {build}" if build else "choose one of these"
    raise ProviderError(f"execution provider {name!r} is not installed (there is {have}); {mend}")


def devices_of(provider: str) -> list[onnxruntime.OrtEpDevice]:
    """The devices that an accelerator reports, as a plugin does; none for one that is only known by name."""
    if provider == CPU:
        return []
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]


def _register(name: str, plugin: Plugin) -> str:
    have = ", ".join(map(short_name, installed_providers()))
    try:
        module = importlib.import_module(plugin.module)
    except ImportError:
        raise ProviderError(
            f"execution provider {name!r} is not installed (there is {have}); run: pip install {plugin.wheel}"
        ) from None
    provider = str(module.get_ep_name())
    if devices_of(provider):
        return provider
    try:
        onnxruntime.register_execution_provider_library(provider, module.get_library_path())
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ProviderError(f"{plugin.wheel} cannot be loaded by onnxruntime ({cause(error)})") from error
    if not devices_of(provider):
        raise ProviderError(
            f"{plugin.wheel} finds no device that it supports on this machine; there is {have}"
        )
    return provider


def cause(error: BaseException) -> str:
    """What a foreign error says in its first line, without onnxruntime's codes, for use inside a sentence."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _CODES.sub("", line).strip().rstrip(".")
