"""Maps of attention are those of transformers, and occlusion finds what an answer rests on."""

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import ViTForImageClassification

from tools.digits import LABELS, split
from vit_edge import Classifier, Explainer
from vit_edge.cli import main
from vit_edge.errors import ContractError, ModelError, UsageError
from vit_edge.host.convert.attention import layout_of
from vit_edge.host.convert.one_file import export_model, export_with_attention
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.explain.attention import AttentionLayout, Reads, last_attention, rollout
from vit_edge.runtime.explain.draw import Shown, draw
from vit_edge.runtime.explain.explainer import Explanation, Method, correlation
from vit_edge.runtime.explain.occlusion import occlusion_map

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "models" / "digits_vit"


@pytest.fixture(scope="module")
def digit() -> np.ndarray:
    part = split()["test"]
    pixels: np.ndarray = part.pixels[int(np.flatnonzero(part.labels == 7)[0])]
    return pixels


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention") / "attention.onnx"
    export_with_attention(resolve(str(DIGITS), SourceOptions()), path)
    return path


@pytest.fixture(scope="module")
def reference(digit: np.ndarray) -> list[np.ndarray]:
    """What transformers' eager attention gives, block by block: (heads, tokens, tokens)."""
    model = ViTForImageClassification.from_pretrained(DIGITS, attn_implementation="eager").eval()
    pixels = torch.from_numpy((digit / 255.0 - 0.5) / 0.5).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        found = model(pixels, output_attentions=True).attentions
    return [each[0].numpy() for each in found]


def rolled_out(attentions: list[np.ndarray]) -> np.ndarray:
    """As the paper writes it: whole matrices, multiplied one after another."""
    result = np.eye(attentions[0].shape[-1])
    for attention in attentions:
        mixed = 0.5 * attention.mean(axis=0) + 0.5 * np.eye(len(result))
        result = (mixed / mixed.sum(axis=-1, keepdims=True)) @ result
    return result


def test_attention_outputs_are_those_of_transformers(
    attentive: Path, digit: np.ndarray, reference: list[np.ndarray]
) -> None:
    session = onnxruntime.InferenceSession(attentive, providers=["CPUExecutionProvider"])
    pixels = ((digit / 255.0 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None]
    made = session.run([f"attention.{block}" for block in range(4)], {"pixel_values": pixels})
    for ours, theirs in zip(made, reference, strict=True):
        np.testing.assert_allclose(ours[0], theirs[:, : ours.shape[2]], atol=2e-6)
    assert [each.shape[2] for each in made] == [17, 17, 17, 1]  # the last block computes what the head reads


def test_the_rollout_is_that_of_the_paper(
    attentive: Path, digit: np.ndarray, reference: list[np.ndarray]
) -> None:
    found = Explainer(attentive)(digit, Method.ROLLOUT)
    np.testing.assert_allclose(found.heat, rolled_out(reference)[0, 1:].reshape(4, 4), atol=2e-6)
    assert found.target is None
    assert found.predictions[0].label == "seven"


def test_the_last_attention_is_that_of_the_class_token(
    attentive: Path, digit: np.ndarray, reference: list[np.ndarray]
) -> None:
    found = Explainer(attentive)(digit, "cls")
    np.testing.assert_allclose(found.heat, reference[-1].mean(axis=0)[0, 1:].reshape(4, 4), atol=2e-6)


def test_a_mean_of_the_patches_is_followed_as_such(reference: list[np.ndarray]) -> None:
    layout = AttentionLayout(4, 1, (4, 4), Reads.MEAN)
    whole = rolled_out(reference)[1:, 1:].mean(axis=0).reshape(4, 4)
    np.testing.assert_allclose(rollout(reference, layout), whole, atol=1e-6)
    every = AttentionLayout(4, 1, (4, 4), Reads.ALL)
    all_tokens = rolled_out(reference)[:, 1:].mean(axis=0).reshape(4, 4)
    np.testing.assert_allclose(rollout(reference, every), all_tokens, atol=1e-6)
    last = reference[-1].mean(axis=0)[1:, 1:].mean(axis=0).reshape(4, 4)
    np.testing.assert_allclose(last_attention(reference, layout), last, atol=1e-6)


def test_the_file_answers_as_the_one_without_attention(
    attentive: Path, digit: np.ndarray, tmp_path: Path
) -> None:
    export_model(resolve(str(DIGITS), SourceOptions()), tmp_path / "plain.onnx")
    one, other = (Classifier(path)(digit, top_k=10) for path in (attentive, tmp_path / "plain.onnx"))
    assert [each.label for each in one] == [each.label for each in other]
    assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-5)


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_int8_files_show_nearly_the_same_attention(
    target: str, attentive: Path, digit: np.ndarray, tmp_path: Path
) -> None:
    """Of the portable form attention is float; the other target's is in integers."""
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    from PIL import Image

    for place, pixels in enumerate(split()["calibration"].pixels[:16]):
        Image.fromarray(pixels).save(calibration / f"{place}.png")
    out = tmp_path / "int8.onnx"
    words = ["quantize", str(DIGITS), "--calib", str(calibration), "--preset", "static", "--attention"]
    assert main([*words, "--target", target, "-o", str(out)]) == 0
    maps = [Explainer(path, provider="cpu")(digit, "rollout").heat for path in (attentive, out)]
    assert (correlation(*maps) or 0) > 0.98
    np.testing.assert_allclose(maps[1].sum(), maps[0].sum(), atol=0.02)


def test_what_is_covered_and_matters_is_hot() -> None:
    """A score that reads one square: covering it takes all of it away, and nothing else matters."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 156, (24, 24, 3), dtype=np.uint8)
    pixels[8:16, 8:16] = 255

    def score(images: np.ndarray) -> np.ndarray:
        return np.asarray(images[:, 8:16, 8:16].mean(axis=(1, 2, 3)) / 255, np.float32)

    heat = occlusion_map(pixels, score, 6)
    assert heat.shape == (24, 24)
    assert heat[10:14, 10:14].min() > 0.05
    assert np.abs(heat[:4, :4]).max() == 0


@pytest.mark.parametrize("size", [(24, 24), (17, 40), (3, 3)])
def test_every_pixel_is_covered(size: tuple[int, int]) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    heat = occlusion_map(pixels, lambda images: np.ones(len(images), np.float32), 5)
    assert heat.shape == size
    assert np.isfinite(heat).all()


def test_occlusion_explains_the_class_that_is_asked_for(attentive: Path, digit: np.ndarray) -> None:
    explain = Explainer(attentive, threads=1)
    likeliest = explain(digit, steps=4)
    assert likeliest.target == "seven"
    assert likeliest.heat.max() > 0
    assert likeliest.heat.shape == (32, 32)
    named, numbered = (explain(digit, target=each, steps=4) for each in ("three", 3))
    assert named.target == numbered.target == "three"
    np.testing.assert_array_equal(named.heat, numbered.heat)


def test_an_explainer_can_be_pickled(attentive: Path, digit: np.ndarray) -> None:
    again = pickle.loads(pickle.dumps(Explainer(attentive, threads=1)))  # noqa: S301
    assert again(digit, "cls").predictions[0].label == "seven"


def test_a_picture_holds_every_panel(digit: np.ndarray) -> None:
    heat = np.linspace(-0.1, 0.4, 1024, dtype=np.float32).reshape(32, 32)
    found = Explanation(heat, digit, Method.OCCLUSION, (), "sieben \u4e03\n")
    one, two = draw([Shown("a", found)]), draw([Shown("a", found), Shown("b", found)])
    assert two.size[0] - one.size[0] == one.size[0] - 16 - 2 * (320 + 16) + 320 + 16
    assert two.size[1] == one.size[1]
    hot, cold = one.getpixel((16 + 336 + 319, 16 + 18 + 319)), one.getpixel((16 + 336, 16 + 18))
    assert isinstance(hot, tuple)
    assert isinstance(cold, tuple)
    assert hot[0] - hot[2] > cold[0] - cold[2]  # red where the place speaks for the class


def test_a_flat_map_has_no_correlation() -> None:
    flat, other = np.ones((4, 4), np.float32), np.arange(16, dtype=np.float32).reshape(4, 4)
    assert correlation(flat, other) is None
    assert correlation(other, 3 * other + 1) == pytest.approx(1)
    assert correlation(other, -other) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"method": "lime"}, "method must be one of occlusion, rollout, cls, gradient, got 'lime'"),
        (
            {"method": "gradient"},
            "gradients take torch: use `vit-edge explain --method gradient`",
        ),
        ({"target": "eleven"}, "'eleven' is neither a label of"),
        ({"target": 10}, "10 is neither a label of"),
        ({"method": "cls", "target": 3}, "cls is about no class"),
        ({"steps": 0}, "steps must be from 1 to 64"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    words: dict[str, object], said: str, attentive: Path, digit: np.ndarray
) -> None:
    with pytest.raises(UsageError, match=said):
        Explainer(attentive, threads=1)(digit, **words)  # type: ignore[arg-type]


def test_a_file_without_attention_says_how_to_make_one(digit: np.ndarray, tmp_path: Path) -> None:
    export_model(resolve(str(DIGITS), SourceOptions()), tmp_path / "plain.onnx")
    explain = Explainer(tmp_path / "plain.onnx")
    assert explain.methods == (Method.OCCLUSION,)
    with pytest.raises(ModelError, match="vit-edge export --attention"):
        explain(digit, "rollout")


def test_malformed_metadata_is_refused(attentive: Path, tmp_path: Path) -> None:
    model = onnx.load(attentive)
    for entry in model.metadata_props:
        if entry.key == "vit_edge.attention":
            entry.value = json.dumps(json.loads(entry.value) | {"prefix": -1})
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match=r"unusable vit_edge\.attention metadata .*prefix must be"):
        Explainer(tmp_path / "bad.onnx")


def test_a_graph_that_is_no_vit_has_no_map() -> None:
    with pytest.raises(ContractError, match="explain by occlusion"):
        layout_of(Canonical("net", None, (), None, "found no attention"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "{source}", "--attention", "--embedder", "-o", "out.onnx"], "give one of them"),
        (["explain", "nowhere.onnx", "image.png", "-o", "heat.png"], "nowhere.onnx does not exist"),
        (["explain", "{model}", "nowhere.png", "-o", "heat.png"], "nowhere.png"),
        (
            ["explain", "{model}", "image.png", "-o", "nowhere/heat.png"],
            "--out nowhere/heat.png cannot be written",
        ),
    ],
)
def test_the_commands_refuse_in_one_line(
    words: list[str],
    said: str,
    attentive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word.format(source=DIGITS, model=attentive) for word in words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_labels_of_the_embedded_model_are_as_the_tests_think() -> None:
    assert LABELS[7] == "seven"
