"""onnxruntime goes on with the CPU where a provider fails; here that is an error, or told."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from vit_edge.errors import ProviderError
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session import placement as opening
from vit_edge.runtime.session.providers import CPU, installed_providers
from vit_edge.runtime.session.session import Session, SessionSettings

CUDA = "CUDAExecutionProvider"

needs_no_cuda = pytest.mark.skipif(CUDA in installed_providers(), reason="CUDA is there and would take it")


@needs_no_cuda
def test_a_provider_that_onnxruntime_silently_replaces_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real onnxruntime: it warns, loads the model on the CPU, and says nothing more."""
    monkeypatch.setattr(opening, "find_provider", lambda *_: CUDA)
    with pytest.warns(UserWarning, match=CUDA):  # onnxruntime's own words
        plain = onnxruntime.InferenceSession(data / "dynamic.onnx", providers=[CUDA, CPU])
    assert plain.get_providers() == [CPU]
    with (
        pytest.warns(UserWarning, match=CUDA),
        pytest.raises(ProviderError, match=r"'cuda' is installed but did not take .*dynamic\.onnx, cpu did"),
    ):
        Session(read_model(data / "dynamic.onnx"), SessionSettings(provider="cuda"))


def test_onnxruntime_is_told_not_to_retry_and_which_format_the_bytes_have(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    real = onnxruntime.InferenceSession

    def watched(model: bytes, options: onnxruntime.SessionOptions, **settings: Any) -> Any:
        seen.update(settings, form=options.get_session_config_entry("session.load_model_format"))
        return real(model, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    Session(read_model(data / "dynamic.onnx"), SessionSettings(provider="cpu"))
    assert not seen["enable_fallback"]
    assert not seen["read_config_from_model"]
    assert seen["form"] == "ONNX"


def test_the_retry_exists_in_this_onnxruntime(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the switch, a provider that throws is replaced by the CPU."""
    from onnxruntime.capi import onnxruntime_inference_collection as collection

    real = collection.InferenceSession._create_inference_session
    tried: list[object] = []

    def first_fails(self: Any, providers: object, *rest: object, **named: object) -> object:
        tried.append(providers)
        if len(tried) == 1:
            self._fallback_providers = [CPU]  # as the real one sets before it creates the session
            raise RuntimeError("the driver is too old")
        return real(self, providers, *rest, **named)

    monkeypatch.setattr(collection.InferenceSession, "_create_inference_session", first_fails)
    session = onnxruntime.InferenceSession(data / "dynamic.onnx", providers=[CUDA])
    assert len(tried) == 2
    assert session.get_providers() == [CPU]
    tried.clear()
    monkeypatch.setattr(opening, "find_provider", lambda *_: CUDA)
    with pytest.raises(ProviderError, match="the driver is too old"):
        Session(read_model(data / "dynamic.onnx"), SessionSettings(provider="cuda"))
    assert len(tried) == 1
