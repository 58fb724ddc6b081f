"""A session gives the same logits whatever the form and batch size, on the provider that was asked for."""

import contextlib
import dataclasses
import gc
import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import ModelError, ProviderError, UsageError
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session import providers
from vit_edge.runtime.session.placement import open_session
from vit_edge.runtime.session.providers import CPU, find_provider, installed_providers
from vit_edge.runtime.session.session import Session, SessionSettings

DATA = Path(__file__).parents[2] / "data"
CPU_ONLY = SessionSettings(provider="cpu", threads=1)
SPINS, SPIN_FOR = "session.intra_op.allow_spinning", "session.intra_op.spin_duration_us"


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), np.uint8)


def test_logits_are_those_of_onnxruntime_on_normalised_input(data: Path) -> None:
    model = read_model(data / "dynamic.onnx")
    assert model.preprocess is not None
    plain = onnxruntime.InferenceSession(data / "dynamic.onnx", providers=[CPU])
    expected = plain.run(["logits"], {"pixel_values": normalize(pixels(5), model.preprocess)})[0]
    result = Session(model, CPU_ONLY).run(pixels(5))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_a_loaded_model_keeps_no_copy_of_its_file_in_memory(data: Path) -> None:
    model = read_model(data / "dynamic.onnx")
    session = Session(model, CPU_ONLY)
    assert session.model == dataclasses.replace(model, data=b"")
    kept = [each for each in gc.get_objects() if isinstance(each, onnxruntime.InferenceSession)]
    assert not any(model.data is value for each in kept for value in vars(each).values())
    assert model.data  # the caller's own


@pytest.mark.parametrize("name", ["fixed4.onnx", "pixels.onnx", "function.onnx", "session_options.onnx"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_every_form_of_the_model_gives_the_same_logits(data: Path, name: str, count: int) -> None:
    expected = Session(read_model(data / "dynamic.onnx"), CPU_ONLY).run(pixels(count))
    result = Session(read_model(data / name), CPU_ONLY).run(pixels(count))
    assert result.shape == (count, 3)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours_in_a_padded_chunk(data: Path) -> None:
    session = Session(read_model(data / "fixed4.onnx"), CPU_ONLY)
    together = session.run(pixels(6))
    alone = np.concatenate([session.run(pixels(6)[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 11))
def test_a_fixed_batch_model_takes_any_number_of_images(count: int) -> None:
    session = Session(read_model(DATA / "fixed4.onnx"), CPU_ONLY)
    assert session.run(pixels(count)).shape == (count, 3)


def test_the_bytes_that_were_checked_are_the_bytes_that_run(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes((data / "dynamic.onnx").read_bytes())
    model = read_model(path)
    path.write_bytes(b"replaced after the check")
    assert Session(model, CPU_ONLY).run(pixels(1)).shape == (1, 3)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((1, 3, 8, 8), np.uint8), np.zeros((1, 9, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.float32)],
    ids=["channels first", "wrong height", "float"],
)
def test_pixels_of_another_layout_are_refused(data: Path, bad: np.ndarray) -> None:
    with pytest.raises(UsageError, match="pixels"):
        Session(read_model(data / "dynamic.onnx"), CPU_ONLY).run(bad)


def test_a_model_that_does_not_say_how_to_normalise_is_refused(data: Path) -> None:
    with pytest.raises(ModelError, match=r"vit_edge\.preprocess"):
        Session(read_model(data / "plain.onnx"))


def test_what_onnxruntime_refuses_is_one_sentence(data: Path) -> None:
    with pytest.raises(ModelError, match="NoSuchOperator") as caught:
        Session(read_model(data / "bad_unrunnable.onnx"), CPU_ONLY)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "bad_unrunnable.onnx" in str(caught.value)


def with_bias(model: ModelFile, value: float) -> ModelFile:
    """The model with a number in place of the bias of its second class."""
    weights = np.frombuffer(model.data, np.uint8).copy()
    bias = np.random.default_rng(7)
    bias.normal(0, 0.3, (6, 3, 4, 4))
    bias.normal(0, 1, (3, 6))
    values = bias.normal(0, 1, 3).astype(np.float32)
    start = model.data.index(values.tobytes())
    weights[start + 4 : start + 8] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
    return dataclasses.replace(model, data=weights.tobytes())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(data: Path, value: float) -> None:
    damaged = with_bias(read_model(data / "dynamic.onnx"), value)
    with pytest.raises(ModelError, match="not finite"):
        Session(damaged, CPU_ONLY).run(pixels(1))


@pytest.mark.parametrize("value", [1e20, -1e20, float(np.finfo(np.float32).min)])
def test_finite_logits_whose_squares_are_not_are_taken(data: Path, value: float) -> None:
    masked = with_bias(read_model(data / "dynamic.onnx"), value)
    assert Session(masked, CPU_ONLY).run(pixels(1))[0, 1] == np.float32(value)


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "auto", "Auto"])
def test_placement_tells_the_provider_and_the_share_of_nodes(data: Path, name: str) -> None:
    if name.lower() == "auto" and installed_providers() != (CPU,):
        pytest.skip("this onnxruntime has an accelerator, auto may take it")
    placement = Session(read_model(data / "dynamic.onnx"), SessionSettings(provider=name)).placement
    assert placement.provider == CPU
    assert placement.shares == ((CPU, 1.0),)
    assert "100.0%" in str(placement)


def test_auto_says_why_it_took_the_cpu(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vit_edge.runtime.session.placement.installed_providers", lambda: ("CUDAExecutionProvider", CPU)
    )
    if "CUDAExecutionProvider" in installed_providers():
        pytest.skip("CUDA is there")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):  # onnxruntime's own words
        placement = Session(read_model(data / "dynamic.onnx")).placement
    assert placement.provider == CPU
    assert "cuda passed over" in placement.reason


def test_auto_tells_of_a_plugin_that_it_leaves_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vit_edge.runtime.session.placement.installed_providers", lambda: (CPU,))
    hint = "webgpu is installed, name it to use it"
    if importlib.util.find_spec("onnxruntime_ep_webgpu") is None:
        assert hint not in Session(read_model(data / "dynamic.onnx")).placement.reason
    (tmp_path / "onnxruntime_ep_webgpu.py").write_text("raise AssertionError('nobody has named it')")
    monkeypatch.syspath_prepend(tmp_path)
    placement = Session(read_model(data / "dynamic.onnx")).placement
    assert placement.provider == CPU
    assert placement.reason.startswith("auto: no accelerator; ")
    assert hint in placement.reason
    assert "installed" not in Session(read_model(data / "dynamic.onnx"), CPU_ONLY).placement.reason


def test_an_unknown_provider_is_refused_with_what_there_is() -> None:
    with pytest.raises(ProviderError, match=r"'warp'.*there is .*cpu"):
        find_provider("warp")


@pytest.mark.parametrize(
    ("name", "wheel"),
    [("cuda", "onnxruntime-gpu"), ("openvino", "onnxruntime-ep-openvino"), ("qnn", "'vit-edge\\[qnn\\]'")],
)
def test_a_provider_that_is_not_installed_says_what_to_install(data: Path, name: str, wheel: str) -> None:
    if name in map(providers.short_name, installed_providers()):
        pytest.skip(f"{name} is installed")
    told = f"pip install {wheel}|finds no device|takes no node"  # of plugins that are there without hardware
    with pytest.raises(ProviderError, match=told):
        Session(read_model(data / "dynamic.onnx"), SessionSettings(provider=name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is wrong.", "This is wrong"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : a.cc:3 f() [ONNXRuntimeError] : 1 : FAIL : No backend\n",
            "No backend",
        ),
        ("plain\nsecond line", "plain"),
        ("", "RuntimeError"),
    ],
)
def test_of_onnxruntimes_errors_only_the_cause_is_told(text: str, expected: str) -> None:
    assert providers.cause(RuntimeError(text)) == expected


def test_a_provider_that_takes_no_node_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vit_edge.runtime.session.placement._shares", lambda _: (("OtherExecutionProvider", 1.0),)
    )
    with pytest.raises(ProviderError, match=r"takes no node of .*dynamic"):
        Session(read_model(data / "dynamic.onnx"), CPU_ONLY)


def test_a_remote_provider_is_never_chosen_or_found() -> None:
    assert "AzureExecutionProvider" not in installed_providers()
    with pytest.raises(ProviderError, match="azure"):
        find_provider("azure")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: SessionSettings(threads=0), "threads", id="no threads"),
        pytest.param(
            lambda: SessionSettings(provider_options=(("device_id", "0"),)),
            "named provider",
            id="options for auto",
        ),
        pytest.param(lambda: SessionSettings(threads=100_000), "threads", id="absurd threads"),
        pytest.param(
            lambda: SessionSettings(options=(("session.load", "1"),)), "session.load", id="unknown option"
        ),
        pytest.param(
            lambda: SessionSettings(options=(("session.qdqisint8allowed", "yes"),)),
            "'yes'",
            id="unknown value",
        ),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=message):
        make()


def test_threads_spinning_and_options_are_accepted(data: Path) -> None:
    settings_ = SessionSettings(
        provider="cpu", threads=2, spinning=False, options=(("session.set_denormal_as_zero", "1"),)
    )
    assert Session(read_model(data / "session_options.onnx"), settings_).run(pixels(2)).shape == (2, 3)


@pytest.mark.parametrize("name", ["dynamic", "fixed4"])
def test_on_the_cpu_no_tensor_is_given_memory_that_the_cache_has_lost(data: Path, name: str) -> None:
    opened = open_session(read_model(data / f"{name}.onnx"), SessionSettings("cpu"))
    assert not opened.session.get_session_options().enable_mem_reuse


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SessionSettings("cpu"), {SPIN_FOR: "20"}),
        (SessionSettings("cpu", threads=2), {SPIN_FOR: "20"}),
        (SessionSettings("cpu", spinning=True), {SPINS: "1"}),
        (SessionSettings("cpu", spinning=False), {SPINS: "0"}),
        (SessionSettings("cpu", options=((SPINS, "1"),)), {SPINS: "1"}),
    ],
)
def test_threads_wait_for_a_moment_unless_spinning_is_stated(
    data: Path, settings: SessionSettings, expected: dict[str, str]
) -> None:
    """Where something else wants the cores, threads that wait by spinning took up to five times as long."""
    opened = open_session(read_model(data / "dynamic.onnx"), settings).session.get_session_options()
    found = {}
    for key in (SPINS, SPIN_FOR):
        with contextlib.suppress(RuntimeError):  # which says that there is no such entry
            found[key] = opened.get_session_config_entry(key)
    assert found == expected
