"""Attention by its gradients: as the paper's formula has it on transformers' own model, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTForImageClassification

from tests.host.dense_models import STATED, dense_onnx
from tests.host.quantize.convnets import network_onnx
from tools.digits import make_folders, split
from vit_edge.cli import main
from vit_edge.errors import ContractError, ModelError
from vit_edge.host.convert.one_file import export_model, export_with_attention
from vit_edge.host.explain.gradient import GradientExplainer
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.explain.explainer import Method

DIGITS = Path(__file__).resolve().parents[3] / "models" / "digits_vit"
TEST = split()["test"]
SEVEN, THREE = (TEST.pixels[int(np.flatnonzero(TEST.labels == digit)[0])] for digit in (7, 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    export_model(resolve(str(DIGITS), SourceOptions()), path)
    return path


def expected(digit: np.ndarray, index: int) -> np.ndarray:
    """Equations 5 and 6 of the paper, with whole matrices, on transformers' eager attention.

    The bias of values is moved behind the attention, which changes no answer.
    """
    model = ViTForImageClassification.from_pretrained(DIGITS, attn_implementation="eager").eval()
    with torch.no_grad():
        for layer in model.vit.layers:
            attention = layer.attention
            attention.o_proj.bias += attention.o_proj.weight @ attention.v_proj.bias
            attention.v_proj.bias.zero_()
    pixels = torch.from_numpy((digit / 255.0 - 0.5) / 0.5).float().permute(2, 0, 1)[None]
    made = model(pixels, output_attentions=True)
    slopes = torch.autograd.grad(made.logits[0, index], made.attentions)
    relevance = torch.eye(17)
    for attention, slope in zip(made.attentions, slopes, strict=True):
        relevance = relevance + (attention * slope).clamp(min=0).mean(dim=1)[0].detach() @ relevance
    return relevance[0, 1:].reshape(4, 4).numpy()


@pytest.mark.parametrize("index", [7, 3, 0])
@pytest.mark.parametrize("digit", [SEVEN, THREE], ids=["seven", "three"])
def test_the_map_is_that_of_the_paper(index: int, digit: np.ndarray, model: Path) -> None:
    """The attention is below 1 and its gradient of order one: 1e-5 is float32 in another order."""
    found = GradientExplainer(model, threads=1)(digit, Method.GRADIENT, index)
    np.testing.assert_allclose(found.heat, expected(digit, index), atol=1e-5, rtol=1e-3)
    assert found.index == index
    assert found.heat.min() >= 0


def test_without_a_class_it_is_about_the_likeliest(model: Path) -> None:
    found = GradientExplainer(model, threads=1)(SEVEN, "gradient")
    assert found.target == "seven"
    assert (found.heat != GradientExplainer(model, threads=1)(SEVEN, "gradient", "three").heat).any()


def test_a_file_with_attention_outputs_gives_the_same_map(model: Path, tmp_path: Path) -> None:
    export_with_attention(resolve(str(DIGITS), SourceOptions()), tmp_path / "attention.onnx")
    explain = GradientExplainer(tmp_path / "attention.onnx", threads=1)
    assert explain.methods == (Method.OCCLUSION, Method.ROLLOUT, Method.CLS, Method.GRADIENT)
    plain = GradientExplainer(model, threads=1)
    np.testing.assert_allclose(explain(SEVEN, "gradient").heat, plain(SEVEN, "gradient").heat, atol=1e-5)


def test_the_command_shows_it(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(SEVEN).save(tmp_path / "seven.png")
    words = ["explain", str(model), str(tmp_path / "seven.png"), "-o", str(tmp_path / "heat.png")]
    assert main([*words, "--method", "gradient", "--class", "seven"]) == 0
    assert "gradient of seven" in capsys.readouterr().out
    with Image.open(tmp_path / "heat.png") as picture:
        assert picture.format == "PNG"


def test_integers_have_no_gradients(tmp_path: Path) -> None:
    make_folders(tmp_path / "digits")
    out = tmp_path / "int8.onnx"
    words = ["quantize", str(DIGITS), "--calib", str(tmp_path / "digits" / "calibration"), "-o", str(out)]
    assert main([*words, "--preset", "static", "--calib-images", "8"]) == 0
    with pytest.raises(ModelError, match=r"quantized already .*explain others by occlusion"):
        GradientExplainer(out, threads=1)(SEVEN, "gradient")


def test_a_network_without_attention_is_refused(tmp_path: Path) -> None:
    given, made = tmp_path / "net.onnx", tmp_path / "made.onnx"
    given.write_bytes(network_onnx("resnet").SerializeToString())
    assert main(["optimize", str(given), "-o", str(made), *STATED, "--allow-uncanonical"]) == 0
    with pytest.raises(ContractError, match="explain others by occlusion"):
        GradientExplainer(made, threads=1)(SEVEN, "gradient")


def test_maps_are_explained_by_no_gradient(tmp_path: Path) -> None:
    (tmp_path / "maps.onnx").write_bytes(dense_onnx("decoder").SerializeToString())
    with pytest.raises(ModelError, match=r"open it with vit_edge\.Segmenter"):
        GradientExplainer(tmp_path / "maps.onnx")
