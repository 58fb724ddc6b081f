"""Embedder files, float and INT8: what they hold, how close they are, and that they are no classifiers."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.host.quantize.small_vit import PREPROCESS, small, written
from vit_edge import Classifier, Embedder, Embedding, selftest
from vit_edge.arrays import Array
from vit_edge.bundle import Bundle, verify_bundle
from vit_edge.errors import ContractError, ModelError, SourceError, UsageError
from vit_edge.golden import read_golden
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.one_file import QuantizeFileSettings, export_model
from vit_edge.host.convert.onnx_io import finish, read_metadata, save_onnx
from vit_edge.host.embedder.files import WrittenEmbedder, export_embedder, quantize_embedder_file
from vit_edge.host.embedder.graph import FeatureGraph, feature_graph
from vit_edge.host.embedder.quantize import (
    MOST_TIME,
    as_chosen,
    embedder_search,
    feature_probe,
    searched,
)
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Form, Goal, Preset, Quantization, QuantizeSettings
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.host.vit import VisionTransformer
from vit_edge.manifest import Role
from vit_edge.runtime.evaluate.dataset import list_images, read_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.spec import InputForm, TargetSpec
from vit_edge.targets import load_target

ROOT = Path(__file__).resolve().parents[3]
OUTPUTS = ["cls_embedding", "pooled_embedding", "patch_features"]


@pytest.fixture(scope="module")
def exported(digits: Source, tmp_path_factory: pytest.TempPathFactory) -> WrittenEmbedder:
    return export_embedder(digits, tmp_path_factory.mktemp("float") / "embedder.onnx")


@pytest.fixture(scope="module")
def quantized(digits: Source, images: Path, tmp_path_factory: pytest.TempPathFactory) -> WrittenEmbedder:
    settings = QuantizeFileSettings(images / "calibration", quantize=QuantizeSettings(images=32))
    return quantize_embedder_file(digits, tmp_path_factory.mktemp("int8") / "embedder.onnx", settings)


@pytest.fixture(scope="module")
def bundle(digits: Source, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    settings = BuildSettings(
        images / "calibration",
        images / "test",
        quantize=QuantizeSettings(images=32),
        embedder=True,
        threads=1,
        rounds=Rounds(3, 0.0),
    )
    return build_bundle(digits, settings, tmp_path_factory.mktemp("bundle") / "bundle")


def plain_outputs(path: Path, pixels: Array, source: Source) -> dict[str, Array]:
    """Outside reference: plain onnxruntime on one image after another."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = [
        session.run(names, {"pixel_values": normalize(image[None], source.preprocess)}) for image in pixels
    ]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def digit_pixels(images: Path, source: Source, count: int = 24) -> Array:
    paths = list_images(images / "test").limited(count).paths
    return np.stack([load_pixels(path, source.preprocess) for path in paths])


def test_the_float_file_gives_what_the_checkpoint_gives_in_torch(
    exported: WrittenEmbedder, digits: Source, images: Path
) -> None:
    pixels = digit_pixels(images, digits)
    found = plain_outputs(exported.written.path, pixels, digits)
    assert isinstance(digits.module, VisionTransformer)
    with torch.inference_mode():
        given = torch.from_numpy(normalize(pixels, digits.preprocess))
        tokens = digits.module.forward_features(given).numpy()
    expected = {
        "cls_embedding": tokens[:, 0],
        "pooled_embedding": tokens[:, 1:].mean(axis=1),
        "patch_features": tokens[:, 1:].reshape(len(pixels), 4, 4, -1),
    }
    assert list(found) == list(expected) == OUTPUTS
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, rtol=0)  # of values up to 5


def test_the_float_file_says_what_it_is(exported: WrittenEmbedder, digits: Source) -> None:
    metadata = read_metadata(onnx.load(exported.written.path), "embedder")
    assert metadata == dataclasses.replace(metadata_of(digits), labels=None)
    assert exported.outputs == dict(zip(OUTPUTS, [(96,), (96,), (4, 4, 96)], strict=True))
    assert exported.written.parity is not None
    assert exported.written.parity.largest < 1e-4
    assert exported.fidelity == {}


def test_a_fixed_batch_is_written_as_asked(digits: Source, tmp_path: Path) -> None:
    export_embedder(digits, tmp_path / "two.onnx", batch=2)
    for output in onnx.load(tmp_path / "two.onnx").graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_value == 2
    assert Embedder(tmp_path / "two.onnx")(np.zeros((9, 9, 3), np.uint8)).patches.shape == (4, 4, 96)


def test_somebodys_onnx_classifier_has_an_embedder_too(
    exported: WrittenEmbedder, digits: Source, images: Path, tmp_path: Path
) -> None:
    export_model(digits, tmp_path / "classifier.onnx")
    source = resolve(str(tmp_path / "classifier.onnx"), SourceOptions())
    export_embedder(source, tmp_path / "embedder.onnx")
    pixels = digit_pixels(images, digits, 4)
    expected = plain_outputs(exported.written.path, pixels, digits)
    found = plain_outputs(tmp_path / "embedder.onnx", pixels, digits)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=0)


def test_the_int8_file_is_small_and_close_to_the_float_one(
    exported: WrittenEmbedder, quantized: WrittenEmbedder, digits: Source, images: Path
) -> None:
    """Cosines of at least 0.99 for each of 16 patches of 24 images that no calibration has seen."""
    pixels = digit_pixels(images, digits)
    expected = plain_outputs(exported.written.path, pixels, digits)
    found = plain_outputs(quantized.written.path, pixels, digits)
    for name in OUTPUTS:
        cosine = (expected[name] * found[name]).sum(-1)
        cosine /= np.linalg.norm(expected[name], axis=-1) * np.linalg.norm(found[name], axis=-1)
        assert cosine.min() > 0.99
        assert cosine.mean() > 0.999
        assert quantized.fidelity[name].cosine == pytest.approx(cosine.mean(), abs=1e-3)
    assert not np.array_equal(expected["patch_features"], found["patch_features"])
    assert quantized.written.size < 0.4 * exported.written.size
    operators = {node.op_type for node in onnx.load(quantized.written.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_every_layer_of_the_int8_embedder_is_decided_and_the_head_is_gone(
    quantized: WrittenEmbedder,
) -> None:
    assert quantized.written.quantization is not None
    names = {layer.name for layer in quantized.written.quantization.layers}
    assert {f"blocks.{i}.{part}" for i in range(4) for part in ("proj", "fc1", "fc2")} <= names
    assert "head" not in names
    assert len(names) == len(quantized.written.quantization.layers)


@pytest.fixture(scope="module")
def target() -> TargetSpec:
    return load_target("cpu-x86-vnni")


def test_a_target_of_pixels_gets_an_embedder_of_pixels(
    digits: Source, images: Path, target: TargetSpec, exported: WrittenEmbedder, tmp_path: Path
) -> None:
    assert target.form.input is InputForm.PIXELS
    settings = QuantizeFileSettings(images / "calibration", target, QuantizeSettings(Preset.STATIC, 16))
    quantize_embedder_file(digits, tmp_path / "e.onnx", settings)
    photo = list_images(images / "test").paths[0]
    found, expected = Embedder(tmp_path / "e.onnx")(photo), Embedder(exported.written.path)(photo)
    assert found.patches.shape == expected.patches.shape
    assert np.sum(found.pooled * expected.pooled) > 0.99 * np.linalg.norm(found.pooled) * np.linalg.norm(
        expected.pooled
    )


@dataclasses.dataclass(frozen=True)
class Small:
    """A small ViT with outliers, quantized by the given preset, and its embedder on the folded graph."""

    plain: FeatureGraph
    folded: FeatureGraph
    search: Search
    quantization: Quantization


@pytest.fixture(scope="module", params=[Preset.BALANCED, Preset.STATIC])
def small_one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    canonical = small()
    plain = feature_graph(canonical)
    paths = written(tmp_path_factory.mktemp("images"), 24)
    search = search_of(canonical, paths, PREPROCESS, QuantizeSettings(request.param, 24))
    return Small(plain, feature_graph(search.canonical, plain.norm), search, search.first())


def own_search(small_one: Small, *aims: str) -> Search:
    known = small_one.search
    return embedder_search(small_one.folded, known, known.plan_set.arithmetic, PREPROCESS, aims)


def test_the_folds_of_quantization_leave_the_embeddings_as_they_are(small_one: Small) -> None:
    """Among them one that moves a scale out of the final norm into the head."""
    before = feature_probe(small_one.plain, small_one.search).reference
    after = feature_probe(small_one.folded, small_one.search).reference
    assert small_one.folded.outputs == tuple(OUTPUTS)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4, rtol=0)


def test_the_last_block_is_calibrated_on_every_token(small_one: Small) -> None:
    """Static ranges of the class token alone would clip the patches: at least 1 dB in this block's noise."""
    static = small_one.search.plain()
    found = own_search(small_one).plain()
    assert set(found.plan.linears) == set(static.plan.linears) - {"head"}
    probe, last = feature_probe(small_one.folded, small_one.search), f"{small_one.folded.last_block}."

    def noise_of_last(plan: QuantPlan) -> float:
        linears = {name: layer for name, layer in plan.linears.items() if name.startswith(last)}
        return probe.noise(QuantPlan(linears))

    assert noise_of_last(found.plan) < 0.8 * noise_of_last(static.plan)


def test_a_classifier_of_static_ranges_alone_has_such_an_embedder(small_one: Small) -> None:
    found = searched(own_search(small_one), small_one.quantization)
    forms = {layer.form for layer in found.layers if layer.name.startswith(small_one.folded.last_block)}
    if small_one.quantization.goal is None:
        assert Form.PER_TOKEN not in forms
    assert forms <= {Form.STATIC, Form.PER_TOKEN, Form.FINE, Form.FLOAT}


@pytest.mark.parametrize("aims", [(), ("patch_features",), ("cls_embedding", "patch_features")])
def test_every_output_that_is_used_reaches_a_goal_where_time_allows(
    small_one: Small, aims: tuple[str, ...]
) -> None:
    """On the images of the search; a goal of float layers is one that can be reached."""
    goal = Goal(30.0, float_layers=True)
    found = own_search(small_one, *aims).reach(goal)
    noises = {
        name: feature_probe(small_one.folded, small_one.search, (name,)).noise(found.plan)
        for name in aims or OUTPUTS
    }
    assert max(noises.values()) <= goal.noise
    assert found.recipe.probe_db == pytest.approx(decibels(max(noises.values())), abs=0.02)


def test_an_embedder_takes_little_more_time_than_with_the_forms_of_the_classifier(small_one: Small) -> None:
    """Where its goal is out of reach, it comes as close as that time allows."""
    own = own_search(small_one, "patch_features")
    chosen = dataclasses.replace(small_one.quantization, goal=Goal(80.0, float_layers=True))
    forms, costs = as_chosen(own, chosen), {}
    for layer in own.layers:
        costs[layer.name] = {option.form: option.cost for option in layer.options}
    before = sum(costs[name][form] for name, form in forms.items())
    found = searched(own, chosen)
    taken = {layer.name: layer.form for layer in found.layers}
    assert sum(costs[name][form] for name, form in taken.items() if name in costs) <= MOST_TIME * before
    assert own.noise(taken) <= own.noise(forms) * 1.01


def test_an_output_that_there_is_not_is_refused_by_name(small_one: Small) -> None:
    with pytest.raises(UsageError, match=r"gives cls_.*, but no logits: leave that --embedder-for"):
        own_search(small_one, "logits")


def test_a_bundle_holds_both_embedders_beside_its_classifiers(bundle: Bundle) -> None:
    manifest = verify_bundle(bundle.path).manifest
    assert manifest.files["onnx/embedder.onnx"].role is Role.EMBEDDER_FLOAT
    assert manifest.files["onnx/embedder_quantized.onnx"].role is Role.EMBEDDER
    assert manifest.default_model in bundle.models()
    assert sorted(bundle.embedders()) == ["onnx/embedder.onnx", "onnx/embedder_quantized.onnx"]
    assert not set(bundle.embedders()) & set(bundle.models())
    assert manifest.accuracy is not None
    parity = manifest.accuracy.parity["embedder"]
    assert parity.largest <= parity.allowed


def test_a_bundle_records_the_fidelity_that_plain_onnxruntime_finds(
    bundle: Bundle, digits: Source, images: Path
) -> None:
    assert bundle.manifest.quantization is not None
    record = bundle.manifest.quantization.embedder
    assert record is not None
    check = read_images(images / "test", digits.labels).limited(record.images)
    pixels = np.stack([load_pixels(path, digits.preprocess) for path in check.paths])
    expected, found = (
        plain_outputs(bundle.path / "onnx" / f"{name}.onnx", pixels, digits)
        for name in ("embedder", "embedder_quantized")
    )
    assert list(record.outputs) == OUTPUTS
    for name, figures in record.outputs.items():
        signal = np.square(expected[name], dtype=np.float64).sum()
        noise = np.square(expected[name] - found[name], dtype=np.float64).sum()
        assert figures.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.05)
        assert figures.least_cosine <= figures.cosine <= 1


def test_the_self_test_knows_what_the_embedders_give(bundle: Bundle) -> None:
    checks = {check.name: check for check in selftest(bundle.path, "cpu", bundle.embedders()).checks}
    for name in bundle.embedders():
        found = checks[f"answers of {name}"]
        assert found.passed, found.found
        assert "cls_embedding, pooled_embedding off by at most" in found.found
    for case in read_golden(bundle):
        if case.model == "onnx/embedder_quantized.onnx":
            spread = max(map(abs, case.values))
            assert case.tolerance < 0.5 * spread, "so wide a tolerance would let anything pass"


def test_the_card_tells_how_close_they_are(bundle: Bundle) -> None:
    figures = bundle.manifest.to_json()["quantization"]["embedder"]["outputs"]["patch_features"]
    text = (bundle.path / "README.md").read_text()
    assert "## Embeddings" in text
    assert f"| `patch_features` | {figures['cosine']:.4f} |" in text
    assert "- embedder:" not in text


def test_the_bundle_embeds_and_classifies(bundle: Bundle, images: Path) -> None:
    photo = list_images(images / "test").paths[0]
    assert Classifier(bundle.path)(photo)[0].label == photo.parent.name
    found, exact = Embedder(bundle.path)(photo), Embedder(bundle.path, model="embedder_float")(photo)
    assert isinstance(found, Embedding)
    assert found.cls is not None
    assert exact.cls is not None
    assert found.cls @ exact.cls > 0.99 * np.linalg.norm(found.cls) * np.linalg.norm(exact.cls)


def test_an_embedder_is_no_source(exported: WrittenEmbedder) -> None:
    with pytest.raises(SourceError, match="is an embedder: pass the classifier"):
        resolve(str(exported.written.path), SourceOptions())


@pytest.mark.parametrize(
    ("out", "batch", "error", "message"),
    [
        ("nowhere/e.onnx", None, ModelError, "there is no folder"),
        (".", None, ModelError, "is a folder"),
        ("e.onnx", 0, UsageError, "batch must be 1 to 1024"),
        ("e.onnx", 2000, UsageError, "batch must be 1 to 1024"),
    ],
)
def test_what_cannot_be_written_is_refused(
    digits: Source, tmp_path: Path, out: str, batch: int | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export_embedder(digits, tmp_path / out, batch)
    assert list(tmp_path.iterdir()) == []


def without_canonical_attention(digits: Source, path: Path) -> Source:
    """The digits model with an activation that no ViT has, as somebody's ONNX file."""
    model, _ = export(digits)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "LogSoftmax"
    save_onnx(finish(model, metadata_of(digits)), path)
    return resolve(str(path), SourceOptions())


def test_a_model_that_is_no_canonical_vit_is_refused_before_any_quantization(
    digits: Source, images: Path, tmp_path: Path
) -> None:
    source = without_canonical_attention(digits, tmp_path / "odd.onnx")
    settings = BuildSettings(images / "calibration", allow_uncanonical=True, embedder=True)
    with pytest.raises(ContractError, match="odd has no patch grid"):
        build_bundle(source, settings, tmp_path / "bundle")
    with pytest.raises(ContractError, match="odd is not a canonical ViT"):
        export_embedder(source, tmp_path / "e.onnx")
    with pytest.raises(ContractError, match="odd is not a canonical ViT"):
        quantize_embedder_file(source, tmp_path / "e.onnx", QuantizeFileSettings(images / "calibration"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.onnx"]
