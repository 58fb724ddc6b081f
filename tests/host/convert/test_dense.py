"""A ViT encoder inside a larger graph: found, made canonical, quantized and judged; the head stays."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from tests.host.dense_models import CHANNELS, DENSE, HOW, STATED, dense_onnx
from tests.host.pictures import smooth_folders
from tests.host.vit_forms import DEPTH, IMAGE, Export, outputs_of
from vit_edge.arrays import Array
from vit_edge.cli import main
from vit_edge.errors import ModelError, SourceError
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.several import takes_any_batch
from vit_edge.host.rewrite.canonical import canonicalise, float_outputs, output_names
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.model.file import check_classifier, read_model
from vit_edge.runtime.session.session import Session
from vit_edge.spec import FloatType, InputForm, Interpolation, ModelForm, OutputKind, PreprocessSpec

TOLERANCE = 2e-5  # of values up to 5: another order of float32 sums
HALF = (0.5, 0.5, 0.5)
EXPORTS = [HOW, Export(True, 20, None), Export(False, 17, 1)]


def images_of(count: int) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, IMAGE, IMAGE), dtype=np.float32)


@pytest.mark.parametrize("how", EXPORTS, ids=str)
@pytest.mark.parametrize("kind", DENSE)
def test_the_encoder_becomes_canonical_and_the_head_gives_the_same(kind: str, how: Export) -> None:
    model, names = dense_onnx(kind, how), DENSE[kind].outputs
    canonical = canonicalise(normal_form(model, kind), kind)
    found = canonical.description
    assert found is not None
    assert (found.depth, found.head) == (DEPTH, DENSE[kind].head)
    assert output_names(canonical) == names
    assert takes_any_batch(canonical)
    lowered = lower(canonical, LowerSettings(ModelForm()))
    given = images_of(3)
    pairs = zip(outputs_of(model, given, names), outputs_of(lowered, given, names), strict=True)
    for expected, made in pairs:
        assert expected.dtype == made.dtype
        np.testing.assert_allclose(made, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", DENSE)
def test_a_head_in_half_precision_gives_nearly_the_same(kind: str) -> None:
    canonical = canonicalise(normal_form(dense_onnx(kind), kind), kind)
    lowered = lower(canonical, LowerSettings(ModelForm(float_type=FloatType.FLOAT16)))
    given, names = images_of(2), float_outputs(canonical)
    pairs = zip(outputs_of(dense_onnx(kind), given, names), outputs_of(lowered, given, names), strict=True)
    for expected, made in pairs:
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, atol=0.03, rtol=0)  # of values up to 5, in 11 bits


def test_encoder_and_head_that_were_joined_by_onnx_are_one_model() -> None:
    """`merge_models` states the opset of both, after which onnx infers no shapes."""
    below, image = dense_onnx("per-patch"), [None, CHANNELS, IMAGE, IMAGE]
    head = helper.make_graph(
        [helper.make_node("Sigmoid", ["given"], ["shares"])],
        "head",
        [helper.make_tensor_value_info("given", onnx.TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, image)],
    )
    version = below.opset_import[0].version
    above = helper.make_model(
        head, opset_imports=[helper.make_opsetid("", version)], ir_version=below.ir_version
    )
    joined = onnx.compose.merge_models(below, above, io_map=[("scores", "given")])
    assert [opset.version for opset in joined.opset_import] == [version, version]
    canonical = canonicalise(normal_form(joined, "joined"), "joined")
    assert canonical.description is not None
    given = images_of(2)
    (expected,) = outputs_of(below, given, ("scores",))
    (made,) = outputs_of(lower(canonical, LowerSettings(ModelForm())), given, ("shares",))
    np.testing.assert_allclose(made, 1 / (1 + np.exp(-expected)), atol=TOLERANCE, rtol=0)
    assert len(joined.opset_import) == 2  # what was given stays as it was


def test_batch_normalisation_goes_into_the_decoder() -> None:
    canonical = canonicalise(normal_form(dense_onnx("decoder"), "decoder"), "decoder")
    assert "BatchNormalization" not in {node.op_type for node in canonical.model.graph}


def test_numbers_come_before_integers() -> None:
    canonical = canonicalise(normal_form(dense_onnx("per-patch"), "per-patch"), "per-patch")
    assert float_outputs(canonical) == ("scores",)


def test_a_head_that_mixes_images_is_written_for_one_image() -> None:
    model = onnx.ModelProto.FromString(dense_onnx("decoder", Export(False, 17, 1)).SerializeToString())
    graph = model.graph
    graph.initializer.append(helper.make_tensor("axes0", onnx.TensorProto.INT64, [1], [0]))
    graph.node.append(helper.make_node("ReduceMean", ["importance", "axes0"], ["mixed"], keepdims=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("mixed", 1, [1, 1, IMAGE, IMAGE]))
    model.opset_import[0].version = 18
    canonical = canonicalise(normal_form(model, "mixed"), "mixed")
    assert not takes_any_batch(canonical)
    with pytest.raises(ModelError, match="computes across the axis of images: it can be written for batch 1"):
        lower(canonical, LowerSettings(ModelForm()))
    lowered = lower(canonical, LowerSettings(ModelForm(batch=1)))
    given = images_of(2)
    expected, made = (outputs_of(each, given, ("mixed",))[0] for each in (model, lowered))
    np.testing.assert_allclose(made, expected, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `calib` and `check` images, and a file of each model."""
    made = tmp_path_factory.mktemp("dense")
    smooth_folders(made, {"calib": 8, "check": 40})
    for kind in DENSE:
        (made / f"{kind}.onnx").write_bytes(dense_onnx(kind).SerializeToString())
    return made


@pytest.mark.parametrize("form", InputForm)
@pytest.mark.parametrize("kind", ["decoder", "per-patch"])
def test_optimize_keeps_every_output_by_name(
    kind: str, form: InputForm, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made.onnx"
    words = ["optimize", str(folder / f"{kind}.onnx"), "-o", str(out), "--input", form.value, *STATED]
    assert main(words) == 0
    written = onnx.load(out)
    assert tuple(value.name for value in written.graph.output) == DENSE[kind].outputs
    assert written.graph.input[0].name == form.value
    model = read_model(out)
    assert (model.output, model.scores) == (OutputKind.MAP, DENSE[kind].outputs[0])
    maps = Session(model).outputs(np.zeros((2, IMAGE, IMAGE, 3), np.uint8))
    assert {name: values.shape[0] for name, values in maps.items()} == {DENSE[kind].outputs[0]: 2}


@pytest.fixture(scope="module")
def quantized(folder: Path) -> Path:
    out = folder / "taps_int8.onnx"
    words = [
        "--calib",
        str(folder / "calib"),
        "--preset",
        "static",
        "--output",
        "pair",
        "-o",
        str(out),
        *STATED,
    ]
    assert main(["quantize", str(folder / "taps.onnx"), *words]) == 0
    return out


def test_a_quantized_model_keeps_its_outputs_and_their_numbers(quantized: Path, folder: Path) -> None:
    written = onnx.load(quantized)
    assert [value.name for value in written.graph.output] == ["pair", "summary"]
    operators = [node.op_type for node in written.graph.node]
    assert operators.count("QuantizeLinear") > 4 * DEPTH
    assert "Conv" in operators
    images = [np.asarray(Image.open(path).resize((IMAGE, IMAGE))) for path in sorted(folder.glob("check/*"))]
    pixels = np.stack(images)
    exact = dense_onnx("taps")
    expected = outputs_of(exact, (pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1), ("pair", "summary"))
    made = Session(read_model(quantized)).outputs(pixels)
    for name, values in zip(("pair", "summary"), expected, strict=True):
        # one static range per layer, of a model with random weights
        assert np.corrcoef(values.ravel(), made[name].ravel())[0, 1] > 0.98


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    out = folder / "bundle"
    words = ["--calib", str(folder / "calib"), "--data", str(folder / "check"), "--preset", "static"]
    more = ["--repair", "never", "--threads", "1", "--max-changed", "20", "-o", str(out)]
    assert main(["build", str(folder / "decoder.onnx"), *words, *more, *STATED]) in (0, 1, 3)
    return out


def test_a_bundle_of_maps_holds_verdict_card_and_golden_cases(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((bundle / "vit_edge.json").read_text())
    assert manifest["output"] == "map"
    measures = manifest["accuracy"]["evidence"]["maps"]
    assert [each["measure"] for each in measures] == ["correlation", "difference"]
    assert {each["output"] for each in measures} == {"importance"}
    card = (bundle / "README.md").read_text()
    assert "It gives maps" in card
    assert "correlation of `importance`" in card
    assert "a head that makes maps (2 Conv, 1 DepthToSpace, 1 Resize)" in card
    assert "Classifier" not in card
    cases = json.loads((bundle / "golden" / "expected.json").read_text())
    assert {len(case["map"]) for case in cases} == {IMAGE * IMAGE}
    assert main(["selftest", str(bundle)]) == 0
    assert "map off by at most" in capsys.readouterr().out
    page = (bundle / "report.html").read_text()
    assert "correlation of importance" in page
    assert "Both models give the same answer" not in page


@pytest.mark.parametrize(
    ("limits", "status", "verdict"),
    [
        (["--min-correlation", "0.5", "--max-difference", "50", "--max-changed", "20"], 0, "PASS"),
        (["--max-difference", "0.0001", "--max-changed", "20"], 1, "FAIL"),
        (["--min-correlation", "0.5", "--max-difference", "50", "--max-changed", "1"], 3, "UNDECIDED"),
    ],
    ids=["loose", "strict", "too few images"],
)
def test_compare_judges_maps(
    limits: list[str],
    status: int,
    verdict: str,
    bundle: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = [str(bundle / "onnx" / name) for name in ("model.onnx", "model_quantized.onnx")]
    words = ["compare", *pair, "--data", str(folder / "check"), "--independent"]
    assert main([*words, *limits]) == status
    shown = capsys.readouterr().out
    assert "correlation of importance" in shown
    assert f"{verdict} for a share of images with a changed map of at most {limits[-1]} %" in shown


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    line = capsys.readouterr().err.strip()
    assert line.count("\n") == 0
    return line


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["classify", "{bundle}", "{image}"], r"gives maps \(importance\), no classes"),
        (
            ["package", "{bundle}", "--for", "c", "-o", "{out}"],
            r"--for c packs classifiers, and .* gives maps",
        ),
        (
            ["compare", "{bundle}", "{bundle}", "--data", "{check}", "--sequential", "--self"],
            "--sequential judges models of single labels only",
        ),
        (
            ["compare", "{bundle}", "{bundle}", "--data", "{check}", "--expect-top1", "80"],
            "--expect-top1 is about models of single labels only",
        ),
        (
            ["compare", "{bundle}", "{bundle}", "--data", "{check}", "--min-correlation", "2"],
            "--min-correlation must lie between 0 and 1",
        ),
        (
            ["compare", "{bundle}/onnx/model.onnx", "{folder}/taps_int8.onnx", "--data", "{check}"],
            r"gives importance \(1, 16, 16\) and .* pair \(2, 4, 4\), summary \(32\); compare two forms",
        ),
    ],
    ids=["classify", "package", "sequential", "expected", "limit", "other maps"],
)
def test_what_maps_cannot_do_is_refused_in_one_line(
    words: list[str],
    found: str,
    bundle: Path,
    quantized: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert quantized.exists()
    places = {
        "bundle": bundle,
        "folder": folder,
        "check": folder / "check",
        "out": tmp_path / "out",
        "image": folder / "check" / "0.png",
    }
    filled = [word.format(**{key: str(value) for key, value in places.items()}) for word in words]
    assert re.search(found, refusal(filled, capsys))


def test_inspect_shows_the_graph_and_why_an_output_cannot_be_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder / "decoder.onnx"), "--output", "nothing"]) == 0
    assert "has no output 'nothing'" in capsys.readouterr().out


def test_a_source_says_that_it_gives_maps(folder: Path) -> None:
    stated = SourceOptions(mean=HALF, std=HALF, crop_pct=1.0, interpolation=Interpolation.BILINEAR)
    source = resolve(str(folder / "per-patch.onnx"), stated)
    assert source.output is OutputKind.MAP
    assert source.labels == tuple(f"channel {index}" for index in range(CHANNELS))
    assert any("scores is the first, and classes kept beside it" in note for note in source.notes)
    assert isinstance(source.preprocess, PreprocessSpec)


def test_maps_of_what_gives_none_are_refused(folder: Path, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString((folder / "per-patch.onnx").read_bytes())
    del model.graph.output[0]
    (tmp_path / "integers.onnx").write_bytes(model.SerializeToString())
    stated = SourceOptions(mean=HALF, std=HALF, crop_pct=1.0, interpolation=Interpolation.BILINEAR)
    with pytest.raises(SourceError, match=r"integers.onnx: output classes .* is not \(N, classes\) logits"):
        resolve(str(tmp_path / "integers.onnx"), stated)


def test_a_file_of_maps_is_no_classifier(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"gives maps \(importance\), no classes"):
        check_classifier(read_model(folder / "decoder.onnx"))
