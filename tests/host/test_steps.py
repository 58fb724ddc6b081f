"""What onnxruntime, torch or onnx raise inside a step becomes a sentence; a bug stays a bug."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.host.vit_forms import Export, exported
from vit_edge.cli import main
from vit_edge.errors import ModelError, StepError
from vit_edge.host.convert import one_file
from vit_edge.host.convert.int8 import mend_of
from vit_edge.host.convert.one_file import QuantizeFileSettings, quantize_model
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.rewrite import canonical as canonical_module
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.steps import Doing, explained, origin_of

ROOT = Path(__file__).resolve().parents[2]
VIT = Export(True, 20, None)


def failing(kind: str) -> None:
    """Each library in an error of its own."""
    if kind == "onnxruntime":
        onnxruntime.InferenceSession(b"no model")
    elif kind == "torch":  # from code of ours: torch has no Python frame of its own there
        code = compile("import torch\ntorch.zeros(2, 3) @ torch.zeros(2, 3)", "ours", "exec")
        exec(code, {"__name__": "vit_edge.host.somewhere"})  # noqa: S102
    else:
        np.zeros(2**48)


@pytest.mark.parametrize(
    ("kind", "origin"),
    [
        ("onnxruntime", "in onnxruntime"),
        ("torch", "in torch"),
        ("memory", "for want of memory"),
    ],
)
def test_a_librarys_error_is_told_by_step_and_mend(kind: str, origin: str) -> None:
    doing = Doing("export")
    doing("calibrate", 3, 8)
    with (
        pytest.raises(StepError, match=rf"^m\.onnx: the step 'calibrate' failed {origin} \(.+\); mend it$"),
        explained("m.onnx", doing, "mend it"),
    ):
        failing(kind)


@pytest.mark.parametrize("error", [KeyError("layer"), TypeError("None"), RecursionError(), AssertionError()])
def test_a_bug_of_ours_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)), explained("m", "export", "mend it"):
        raise error
    assert origin_of(error) is None


def test_an_error_of_ours_passes_as_it_is() -> None:
    with pytest.raises(ModelError, match=r"^plain$"), explained("m", "export", "mend it"):
        raise ModelError("plain")


def test_progress_is_told_on() -> None:
    told: list[tuple[str, int, int]] = []
    doing = Doing("read", lambda *what: told.append(what))
    assert doing.step == "read"
    doing("calibrate", 1, 2)
    assert (doing.step, told) == ("calibrate", [("calibrate", 1, 2)])


def test_a_rewrite_rule_that_a_library_breaks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical_module, "apply_rule", lambda *_: failing("onnxruntime"))
    with pytest.raises(StepError, match="'the rewrite rule RemoveSoftmaxGuard' failed in onnxruntime"):
        canonicalise(exported("own", VIT), "m.onnx")


def test_a_graph_that_onnx_refuses_to_prepare_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical_module, "prepare", lambda *_: failing("onnxruntime"))
    with pytest.raises(StepError, match=r"'preparing the graph' .* export it again"):
        canonicalise(exported("own", VIT), "m.onnx")


def test_writing_a_graph_that_onnx_refuses_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    canonical = canonicalise(exported("own", VIT), "m.onnx")
    monkeypatch.setattr("vit_edge.host.lower.model.CheckerPass", lambda **_: lambda _: failing("onnxruntime"))
    with pytest.raises(StepError, match="the step 'writing the graph' failed in onnxruntime"):
        lower(canonical, LowerSettings())


def test_quantizing_names_the_step_and_the_cache_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        given[-1]("search attention", 1, 4)  # type: ignore[operator]
        failing("onnxruntime")

    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(one_file, "search_of", broken)
    source = resolve(str(ROOT / "models" / "digits_vit"), SourceOptions())
    settings = QuantizeFileSettings(tmp_path, quantize=QuantizeSettings(cache=tmp_path / "kept"))
    with pytest.raises(StepError, match=r"'search attention' failed .* is kept in .*kept; try fewer"):
        quantize_model(source, tmp_path / "out.onnx", settings)
    assert not (tmp_path / "out.onnx").exists()
    assert "kept" not in mend_of(QuantizeSettings())


@pytest.mark.parametrize(
    ("kind", "expected"), [("onnxruntime", "failed in onnxruntime"), ("bug", "internal error")]
)
def test_the_command_line_calls_only_bugs_internal(
    kind: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def broken(_: object) -> None:
        if kind == "bug":
            raise KeyError("layer")
        failing(kind)

    monkeypatch.setattr("vit_edge.host.convert.inspect.inspect_onnx", broken)
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 2
    assert expected in capsys.readouterr().err
