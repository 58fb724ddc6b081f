"""A model that a provider compiles for its device is compiled once, and again when anything has changed."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from vit_edge.errors import ProviderError
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session import contexts
from vit_edge.runtime.session import placement as opening
from vit_edge.runtime.session.contexts import Context, ContextKey, read_context, write_context
from vit_edge.runtime.session.providers import CPU, known_providers
from vit_edge.runtime.session.session import Session, SessionSettings

KEY = ContextKey("a" * 64, CPU, "Maker NPU", (("mode", "fast"),), (), "wheel 1.0", "1.32.0")
DATA = Path(__file__).resolve().parents[2] / "data"
CONTEXT = Context((DATA / "dynamic.onnx").read_bytes(), ((CPU, 1.0),))
SETTINGS = SessionSettings("cpu", threads=1)

Open = Callable[..., onnxruntime.InferenceSession]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dataclasses.dataclass
class Compiler:
    """Stands in for a provider that compiles: its compiled form of a model is the model itself."""

    open: Open
    compiled: int = 0
    loaded: int = 0
    refuses: bool = False  # whatever is no longer the model that it was given

    def __call__(
        self,
        model: ModelFile,
        settings: SessionSettings,
        place: Any,
        entries: Mapping[str, str] | None = None,
    ) -> onnxruntime.InferenceSession:
        if entries is None:
            self.loaded += 1
            if self.refuses:
                raise ProviderError("the device refuses what was compiled")
        else:
            assert entries["ep.context_enable"] == entries["ep.context_embed_mode"] == "1"
            self.compiled += 1
            Path(entries["ep.context_file_path"]).write_bytes(model.data)
        return self.open(model, settings, place)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    spec = dataclasses.replace(known_providers()["cpu"], contexts=True)
    monkeypatch.setattr(opening, "known_providers", lambda: {"cpu": spec})
    compiler = Compiler(opening._open)
    monkeypatch.setattr(opening, "_open", compiler)
    return compiler


def test_the_second_session_loads_what_the_first_compiled(data: Path, compiler: Compiler) -> None:
    model = read_model(data / "dynamic.onnx")
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    first, second = Session(model, SETTINGS), Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (1, 1)
    np.testing.assert_array_equal(first.run(pixels), second.run(pixels))
    assert first.placement == second.placement


@pytest.mark.parametrize(
    "change",
    [
        SessionSettings("cpu", options=(("session.set_denormal_as_zero", "1"),)),
        SessionSettings("cpu", provider_options=(("arena_extend_strategy", "kSameAsRequested"),)),
    ],
    ids=["session option", "provider option"],
)
def test_other_options_are_compiled_apart(data: Path, compiler: Compiler, change: SessionSettings) -> None:
    model = read_model(data / "dynamic.onnx")
    for settings in (SETTINGS, change, SETTINGS, change):
        Session(model, settings)
    assert (compiler.compiled, compiler.loaded) == (2, 2)


def test_another_model_is_compiled_apart(data: Path, compiler: Compiler) -> None:
    for name in ("dynamic.onnx", "pixels.onnx", "dynamic.onnx"):
        Session(read_model(data / name), SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 1)


@pytest.mark.parametrize("what", ["versioned", "onnxruntime"])
def test_after_an_update_the_model_is_compiled_again_and_the_old_form_is_replaced(
    data: Path, compiler: Compiler, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    if what == "versioned":
        monkeypatch.setattr(opening, "versioned", lambda package: f"{package} 99.0")
    else:
        key = opening._Place.key
        newer = lambda *given: dataclasses.replace(key(*given), runtime="99.0")  # noqa: E731
        monkeypatch.setattr(opening._Place, "key", newer)
    Session(model, SETTINGS)
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 1)
    assert len(list((cache / "vit-edge" / "contexts").iterdir())) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda kept: kept[:-5], id="cut"),
        pytest.param(lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]), id="one bit"),
        pytest.param(lambda kept: b"{}\n" + kept, id="another header"),
        pytest.param(lambda _: b"\xff\xfe\n\n", id="no text"),
        pytest.param(lambda kept: kept.replace(b'"shares": {', b'"shares": ["', 1), id="no JSON"),
    ],
)
def test_a_damaged_cache_is_compiled_again_and_repaired(
    data: Path, compiler: Compiler, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    (kept,) = (cache / "vit-edge" / "contexts").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 0)
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 1)


def test_what_the_device_refuses_is_compiled_again(data: Path, compiler: Compiler) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    compiler.refuses = True
    assert Session(model, SETTINGS).run(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 3)
    assert compiler.compiled == 2


def test_a_cache_that_cannot_be_written_does_no_harm(data: Path, compiler: Compiler, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        Session(read_model(data / "dynamic.onnx"), SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 0)


def test_a_provider_that_compiles_nothing_keeps_nothing(data: Path, cache: Path) -> None:
    Session(read_model(data / "dynamic.onnx"), SETTINGS)
    assert not (cache / "vit-edge" / "contexts").exists()


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ContextKey)])
def test_a_context_is_read_for_its_own_key_only(field: str) -> None:
    assert write_context(KEY, CONTEXT)
    assert read_context(KEY) == CONTEXT
    value = getattr(KEY, field)
    changed: Any = f"{value}x" if isinstance(value, str) else (("k", "v"),)
    other = dataclasses.replace(KEY, **{field: changed})
    assert read_context(other) is None


def planted(cache: Path) -> Path:
    """The one compiled model that is kept."""
    (kept,) = (cache / "vit-edge" / "contexts").iterdir()
    return kept


def negated(path: Path) -> bytes:
    """A model that answers the opposite."""
    onnx = pytest.importorskip("onnx", reason="the model is made with the package onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["right" if name == "logits" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["right"], ["logits"]))
    return bytes(model.SerializeToString())


def test_a_planted_model_that_answers_the_opposite_is_never_run(
    data: Path, compiler: Compiler, cache: Path
) -> None:
    model = read_model(data / "dynamic.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    right = Session(model, SETTINGS).run(pixels)
    wrong = negated(data / "dynamic.onnx")
    kept = planted(cache)
    opposite = dataclasses.replace(model, data=wrong, sha256="b" * 64)
    np.testing.assert_array_equal(Session(opposite, SETTINGS).run(pixels), -right)
    head, _, _ = kept.read_bytes().partition(b"\n")
    plain = json.dumps({"shares": {CPU: 1.0}, "seal": hashlib.sha256(wrong).hexdigest()}).encode()
    for forged in (head, plain, b'{"shares": {}, "seal": ""}', b'{"shares": {}, "seal": "\\ud800"}'):
        kept.write_bytes(forged + b"\n" + wrong)
        before = compiler.loaded
        np.testing.assert_array_equal(Session(model, SETTINGS).run(pixels), right)
        assert compiler.loaded == before, "nothing of what was planted may reach an engine"


def test_a_context_sealed_by_somebody_else_is_compiled_again(
    data: Path, compiler: Compiler, cache: Path
) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    secret = cache / "vit-edge" / "key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.write_bytes(bytes(32))
    Session(model, SETTINGS)
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 1)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
@pytest.mark.parametrize("name", ["", "contexts", "contexts/*"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_contexts_where_others_may_write_are_not_read(
    data: Path, compiler: Compiler, cache: Path, name: str, mode: int
) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    (place,) = (cache / "vit-edge").glob(name) if name else [cache / "vit-edge"]
    place.chmod(place.stat().st_mode | mode)
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 0)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_a_secret_that_others_may_read_seals_nothing(data: Path, compiler: Compiler, cache: Path) -> None:
    model = read_model(data / "dynamic.onnx")
    Session(model, SETTINGS)
    secret = cache / "vit-edge" / "key"
    known = secret.read_bytes()
    secret.chmod(0o640)
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 0)
    assert secret.read_bytes() != known, "what others may have read is replaced"
    Session(model, SETTINGS)
    assert (compiler.compiled, compiler.loaded) == (2, 1)


@pytest.mark.parametrize("name", ["bad_external.onnx", "bad_foreign.onnx", "bad_foreign_subgraph.onnx"])
def test_what_no_engine_may_load_is_not_read_even_with_a_seal(data: Path, name: str) -> None:
    assert write_context(KEY, Context((data / name).read_bytes(), ()))
    assert read_context(KEY) is None


@pytest.mark.parametrize("content", [b"", b"compiled", b"\x00" * 100])
def test_what_is_no_model_is_not_read_even_with_a_seal(content: bytes) -> None:
    assert write_context(KEY, Context(content, ()))
    assert read_context(KEY) is None


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert contexts.versioned("no-such-distribution") == "no-such-distribution"
    assert contexts.versioned("numpy") == f"numpy {np.__version__}"


def integer_classifier(folder: Path) -> Path:
    """A linear classifier of which every operator is integer, as an NPU wants it."""
    onnx = pytest.importorskip("onnx", reason="the model is made with the package onnx")
    h, n = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.02),
        "z": np.int8(0),
        "w": rng.integers(-127, 128, (192, 3), np.int8),
        "ws": np.float32(0.01),
        "os": np.float32(0.05),
        "shape": np.asarray([1, 192], np.int64),
    }
    nodes = [
        h.make_node("QuantizeLinear", ["pixel_values", "s", "z"], ["q"]),
        h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        h.make_node("Reshape", ["d", "shape"], ["flat"]),
        h.make_node("QuantizeLinear", ["flat", "s", "z"], ["fq"]),
        h.make_node("DequantizeLinear", ["fq", "s", "z"], ["fd"]),
        h.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"]),
        h.make_node("MatMul", ["fd", "wd"], ["m"]),
        h.make_node("QuantizeLinear", ["m", "os", "z"], ["mq"]),
        h.make_node("DequantizeLinear", ["mq", "os", "z"], ["logits"]),
    ]
    image = h.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, (1, 3, 8, 8))
    logits = h.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, (1, 3))
    initializers = [n(np.asarray(value), name) for name, value in constants.items()]
    graph = h.make_graph(nodes, "npu", [image], [logits], initializers)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "npu.onnx")
    return folder / "npu.onnx"


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None,
    reason="the plugin provider is not installed: pip install 'vit-edge[qnn]'",
)
def test_a_plugin_compiles_a_model_and_its_compiled_form_gives_the_same_answers(
    tmp_path: Path, data: Path, cache: Path
) -> None:
    preprocess = read_model(data / "dynamic.onnx").preprocess
    model = dataclasses.replace(read_model(integer_classifier(tmp_path)), preprocess=preprocess)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)
    first = Session(model, SessionSettings("qnn"))
    (kept,) = (cache / "vit-edge" / "contexts").iterdir()
    written = kept.stat().st_mtime_ns
    second = Session(model, SessionSettings("qnn"))
    assert kept.stat().st_mtime_ns == written  # loaded, not compiled again
    assert b"EPContext" in kept.read_bytes()
    np.testing.assert_array_equal(first.run(pixels), second.run(pixels))
    assert second.placement == first.placement
    # exact on CPUs without VNNI, too
    exact = (("session.qdqisint8allowed", "0"), ("session.x64quantprecision", "1"))
    on_cpu = Session(model, SessionSettings("cpu", options=exact)).run(pixels)
    np.testing.assert_allclose(first.run(pixels), on_cpu, atol=0.05 * 1.01)  # one step of the output
