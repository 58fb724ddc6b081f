"""From model file to model file: optimizing, quantizing, and the images that a build proves itself on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tests.manifests import METHOD
from vit_edge.bundle import FileEntry, Manifest, Role, SourceRecord, write_bundle
from vit_edge.errors import (
    BundleError,
    ContractError,
    DatasetError,
    ModelError,
    ParityError,
    TargetError,
    UsageError,
)
from vit_edge.golden import read_golden
from vit_edge.host.affine import Affine
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.golden import golden_files
from vit_edge.host.bundling.images import choose_images
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.convert.for_target import check_target, for_target
from vit_edge.host.convert.inspect import inspect_onnx
from vit_edge.host.convert.one_file import (
    OptimizeSettings,
    QuantizeFileSettings,
    export_model,
    optimize_model,
    quantize_model,
)
from vit_edge.host.convert.onnx_io import finish, read_metadata, read_onnx, save_onnx
from vit_edge.host.convert.optimize import CheckImages, optimized
from vit_edge.host.plan import AttentionPlan, QuantPlan
from vit_edge.host.quantize.types import Form, LayerDecision, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.runtime.session.session import Session
from vit_edge.spec import (
    ActivationType,
    Arithmetic,
    FloatType,
    GraphStyle,
    InputForm,
    Interpolation,
    ModelForm,
    QuantizedOperators,
    TargetSpec,
)
from vit_edge.targets import load_target

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def exported(digits: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    export_model(digits, path)
    return path


def some_pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def run(path: Path, feed: np.ndarray) -> np.ndarray:
    """Outside reference: plain onnxruntime, one image after another."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(["logits"], {name: feed[i : i + 1]})[0] for i in range(len(feed))])


@pytest.mark.parametrize("form", list(InputForm))
@pytest.mark.parametrize("batch", [None, 1])
def test_an_optimized_file_gives_the_logits_of_its_original(
    exported: Path, digits: Source, images: Path, tmp_path: Path, form: InputForm, batch: int | None
) -> None:
    """2e-5: float32 rounding of logits below 5."""
    out = tmp_path / "optimized.onnx"
    written = optimize_model(
        exported, out, OptimizeSettings(ModelForm(batch, form), images=images / "calibration")
    )
    pixels = some_pixels()
    normal = normalize(pixels, digits.preprocess)
    got = run(out, pixels if form is InputForm.PIXELS else normal)
    np.testing.assert_allclose(got, run(exported, normal), atol=2e-5, rtol=0)
    assert written.parity is not None
    assert 0 < written.parity.largest <= written.parity.allowed
    assert read_metadata(read_onnx(out), "out") == read_metadata(read_onnx(exported), "in")
    assert read_model(out).batch == batch


def test_stated_preprocessing_and_labels_win_over_those_in_the_file(exported: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefghij"))
    options = SourceOptions(labels=names, mean=(0.1, 0.2, 0.3))
    out = tmp_path / "o.onnx"
    optimize_model(exported, out, OptimizeSettings(options=options))
    metadata = read_metadata(read_onnx(out), "out")
    assert metadata.labels == tuple("abcdefghij")
    assert metadata.preprocess is not None
    assert metadata.preprocess.mean == (0.1, 0.2, 0.3)


def test_a_file_without_preprocessing_can_be_optimized_but_not_for_pixels(
    exported: Path, tmp_path: Path
) -> None:
    bare, out = tmp_path / "bare.onnx", tmp_path / "o.onnx"
    save_onnx(finish(read_onnx(exported), ModelMetadata()), bare)
    optimize_model(bare, out, OptimizeSettings())
    assert read_metadata(read_onnx(out), "out") == ModelMetadata()
    out.unlink()
    with pytest.raises(UsageError, match="does not say how its images are normalised"):
        optimize_model(bare, out, OptimizeSettings(ModelForm(input=InputForm.PIXELS)))
    with pytest.raises(UsageError, match="does not say how images are preprocessed"):
        optimize_model(bare, out, OptimizeSettings(images=tmp_path))
    assert not out.exists()


def with_another_activation(path: Path, out: Path) -> Path:
    """A graph that is no ViT: its first GELU became a sine."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "Gelu")
    node.op_type = "Sin"
    node.ClearField("attribute")
    onnx.save(model, out)
    return out


def test_a_graph_that_is_no_vit_is_refused_by_block_unless_allowed(exported: Path, tmp_path: Path) -> None:
    odd, out = with_another_activation(exported, tmp_path / "odd.onnx"), tmp_path / "o.onnx"
    with pytest.raises(ContractError, match="is not a canonical ViT: block 0: expected the activation"):
        optimize_model(odd, out, OptimizeSettings())
    assert not out.exists()
    written = optimize_model(odd, out, OptimizeSettings(allow_uncanonical=True))
    assert written.canonical is not None
    assert written.canonical.refusal is not None
    normal = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(run(out, normal), run(odd, normal), atol=2e-5, rtol=0)
    assert read_model(out).batch == 1


def test_a_rewrite_that_changes_the_logits_is_caught(exported: Path, tmp_path: Path) -> None:
    original = onnx.load(with_another_activation(exported, tmp_path / "odd.onnx"))
    canonical = canonicalise(read_onnx(exported), "digits")
    with pytest.raises(ParityError, match="the optimized digits differs from the original"):
        optimized(original, canonical, ModelForm(), CheckImages((32, 32)))


@pytest.mark.parametrize("batch", [0, 1025])
def test_a_form_that_no_file_can_have_is_refused(batch: int) -> None:
    with pytest.raises(UsageError, match="batch must be 1 to 1024"):
        ModelForm(batch)


@pytest.mark.parametrize(
    "name", ["cpu", "cpu-x86-avx2", "cpu-x86-vnni", "cpu-arm64", "openvino", "qnn-htp", "tensorrt"]
)
def test_a_quantized_file_has_the_form_of_its_target_and_keeps_the_answers(
    digits: Source, images: Path, tmp_path: Path, name: str
) -> None:
    target, out = load_target(name), tmp_path / "q.onnx"
    settings = QuantizeFileSettings(images / "calibration", target, QuantizeSettings(images=16))
    written = quantize_model(digits, out, settings)
    model = read_model(out)
    assert model.form is target.form.input
    assert model.batch == target.form.batch
    assert set(target.session_options) <= set(model.session_options)
    assert (model.labels, model.preprocess) == (digits.labels, digits.preprocess)
    assert written.quantization is not None
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert out.stat().st_size < digits_float_size(digits)
    paths = sorted((images / "test").rglob("*.png"))[::7]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    assert digits.module is not None
    expected = digits.module(torch_images(pixels, digits)).detach().numpy()
    assert (Session(model).run(pixels).argmax(1) == expected.argmax(1)).mean() >= 0.95


def digits_float_size(digits: Source) -> int:
    assert digits.module is not None
    return sum(4 * parameter.numel() for parameter in digits.module.parameters())


def torch_images(pixels: np.ndarray, source: Source):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(normalize(pixels, source.preprocess))


@pytest.mark.parametrize("integer", [True, False], ids=["integer attention", "float attention"])
def test_the_record_speaks_of_the_file_and_not_of_what_was_possible(integer: bool) -> None:
    """A target without integer attention gets neither its plan nor a record that claims it."""
    attention = AttentionPlan(Affine(0.1, 128), 0.1, 0.1)
    decided = (
        LayerDecision("blocks.0.attention", Form.STATIC, 40.0, "the fastest form"),
        LayerDecision("blocks.0.fc1", Form.STATIC, 40.0, "the fastest form"),
    )
    plan = QuantPlan(attentions={"blocks.0.attention": attention})
    operators = QuantizedOperators.PRODUCTS if integer else QuantizedOperators.LINEAR
    kind = Arithmetic.SATURATING
    target = dataclasses.replace(load_target("cpu"), quantized_operators=operators)
    taken = for_target(Quantization({kind: plan}, kind, decided, METHOD, {}), target)
    assert bool(taken.plan.attentions) is integer
    assert [layer.form for layer in taken.layers] == [Form.STATIC if integer else Form.FLOAT, Form.STATIC]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"weight_bits": 4}, "weight_bits 4, but only 8"),
        ({"per_channel": False}, "per_channel False, but only True"),
        ({"row_scales": False}, "row_scales False, but only True"),
        (
            {"form": ModelForm(activations=ActivationType.UINT16)},
            "activation_type uint16, but only uint8 or int8",
        ),
        ({"quantized_operators": QuantizedOperators.ALL}, "row_scales True, but only False"),
        (
            {"form": ModelForm(activations=ActivationType.INT8, style=GraphStyle.CODES)},
            "graph_style codes, which takes activation_type uint8",
        ),
        (
            {"form": ModelForm(float_type=FloatType.FLOAT16, style=GraphStyle.CODES)},
            "graph_style codes, which takes .* float_type float32",
        ),
    ],
)
def test_a_target_that_asks_for_what_cannot_be_written_is_refused(
    digits: Source, images: Path, tmp_path: Path, change: dict[str, object], cause: str
) -> None:
    target = with_fields(load_target("cpu"), change)
    with pytest.raises(TargetError, match=cause):
        check_target(target)
    with pytest.raises(TargetError, match=cause):
        build_bundle(digits, BuildSettings(images / "calibration", targets=(target,)), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_nothing_is_quantized_for_a_target_that_stays_in_float(
    digits: Source, images: Path, tmp_path: Path
) -> None:
    settings = QuantizeFileSettings(images / "calibration", load_target("cuda"))
    with pytest.raises(TargetError, match="computes everything in float16, so there is nothing to quantize"):
        quantize_model(digits, tmp_path / "q.onnx", settings)
    assert not (tmp_path / "q.onnx").exists()


def test_two_targets_share_a_file_where_they_differ_only_in_what_runs_it() -> None:
    portable = load_target("cpu")
    assert portable.file == load_target("wasm").file
    for name in ("cpu-x86-vnni", "cpu-arm64", "openvino", "cuda", "tensorrt"):
        assert portable.file != load_target(name).file, name
    assert load_target("coreml").file == load_target("xnnpack").file


def test_every_field_of_a_target_goes_into_its_file_or_into_what_runs_it() -> None:
    target = load_target("cpu")
    fields = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    runs_it = {"name", "title", "description", "provider", "requires", "priority"}
    known_of_it = {"verification", "predicted"}
    in_file = [value for name, value in fields.items() if name not in runs_it | known_of_it]
    assert sorted(map(repr, target.file)) == sorted(map(repr, in_file))


def with_fields(target: TargetSpec, change: dict[str, object]) -> TargetSpec:
    fields = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    return TargetSpec(**{**fields, **change})


def test_a_build_refuses_a_folder_of_other_things_before_it_works(
    digits: Source, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(BundleError, match="is no bundle; choose another output"):
        build_bundle(digits, BuildSettings(images / "calibration"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def write_images(folder: Path, values: Sequence[int]) -> Path:
    folder.mkdir()
    for value in values:
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder / f"{value:03}.png")
    return folder


def test_without_check_images_every_fourth_is_held_out(tmp_path: Path) -> None:
    chosen = choose_images(write_images(tmp_path / "calib", range(10)), None, ("a", "b"), None)
    assert [path.stem for path in chosen.check.paths] == ["003", "007"]
    assert [path.stem for path in chosen.calibration] == [
        "000",
        "001",
        "002",
        "004",
        "005",
        "006",
        "008",
        "009",
    ]
    assert chosen.held_out
    assert chosen.check.targets is None


def test_an_image_that_checks_never_calibrates(tmp_path: Path) -> None:
    calibration = write_images(tmp_path / "calib", [1, 2, 3])
    data = write_images(tmp_path / "data", [3, 4])
    chosen = choose_images(calibration, data, ("a", "b"), None)
    assert [path.stem for path in chosen.calibration] == ["001", "002"]
    assert chosen.left_out == 1
    assert not chosen.held_out


def test_images_that_are_too_few_or_the_same_are_refused(tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", [1, 2, 3])
    with pytest.raises(DatasetError, match="too few to hold out every fourth"):
        choose_images(few, None, ("a", "b"), None)
    with pytest.raises(DatasetError, match="every image of"):
        choose_images(few, few, ("a", "b"), None)


def test_golden_files_let_a_device_check_itself(exported: Path, digits: Source, tmp_path: Path) -> None:
    model, pixels = read_model(exported), some_pixels()[:2]
    files = golden_files([{"onnx/model.onnx": model}, {}], pixels)
    files["onnx/model.onnx"] = model.data
    roles = {name: Role.FLOAT if name.endswith(".onnx") else Role.GOLDEN for name in files}
    manifest = Manifest(
        files={name: FileEntry.of(data, roles[name]) for name, data in files.items()},
        default_model="onnx/model.onnx",
        preprocess=digits.preprocess,
        source=SourceRecord("digits", "0" * 64),
        tools={},
    )
    bundle = write_bundle(tmp_path / "b", files, manifest)
    expected = run(exported, normalize(pixels, digits.preprocess))
    for case, logits, image in zip(read_golden(bundle), expected, pixels, strict=True):
        assert np.abs(np.asarray(case.values) - logits).max() <= 1e-5 < case.tolerance
        np.testing.assert_array_equal(np.asarray(Image.open(bundle.path / case.image)), image)


def test_inspection_says_what_a_file_is_and_what_the_rules_did(exported: Path, digits: Source) -> None:
    found = inspect_onnx(exported)
    assert found.opsets == (("ai.onnx", 20),)
    assert found.onnxruntime == "1.17 or newer (opset 20, IR 9)"
    assert found.inputs == ("pixel_values float [batch, 3, 32, 32]",)
    assert dict(found.operators)["Gelu"] == 4
    assert found.metadata.labels == digits.labels
    assert found.description is not None
    assert (found.description.depth, found.description.classes) == (4, 10)
    assert {outcome.rule: outcome.fired for outcome in found.outcomes}["RaiseAttention"] == 4


def test_inspection_of_another_model_says_why_it_is_no_vit(exported: Path, tmp_path: Path) -> None:
    found = inspect_onnx(with_another_activation(exported, tmp_path / "odd.onnx"))
    assert found.description is None
    assert found.refusal is not None
    assert "block 0" in found.refusal
    plain = inspect_onnx(ROOT / "tests" / "data" / "plain.onnx")
    assert plain.refusal is not None


def test_inspection_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is no ONNX model"):
        inspect_onnx(tmp_path / "m.onnx")


def test_a_model_with_its_own_preprocessing_needs_none_stated(exported: Path) -> None:
    source = resolve(str(exported), SourceOptions())
    assert source.preprocess.interpolation is Interpolation.BICUBIC
