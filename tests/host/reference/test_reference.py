"""The proof source -> float: what is proven, what differs and in which stage, and what a reference may be."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from tests.host.pictures import picture, pictures_in
from tests.host.vit_folder import LABELS, save
from vit_edge import Classifier
from vit_edge.cli import main
from vit_edge.errors import DatasetError, SourceError, UsageError
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.attempt import attempted, covered
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import SHOWN, prove
from vit_edge.host.reference.recorded import Recorded, user_reference
from vit_edge.host.reference.timm_pipeline import TimmPipeline
from vit_edge.host.reference.transformers_pipeline import TransformersPipeline
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.types import Library, OwnPipeline
from vit_edge.runtime.evaluate.dataset import ImageSet, list_images
from vit_edge.source_parity import ProofState, SourceParity, Stage
from vit_edge.spec import CropRule, Interpolation, OutputKind, PreprocessSpec, ResizeMode


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return pictures_in(tmp_path_factory.mktemp("images"), 6)


@pytest.fixture(scope="module")
def float_model(folder: Path) -> Path:
    return exported(folder, folder.parent / "float.onnx")


def exported(folder: Path, out: Path, **options: Any) -> Path:
    export_model(resolve(str(folder), SourceOptions(**options)), out)
    return out


# --- proven and not


def test_a_huggingface_folder_is_proven_against_transformers_own_pipeline(
    folder: Path, float_model: Path, images: ImageSet
) -> None:
    found = prove(TransformersPipeline(folder), float_model, images)
    assert found.state is ProofState.PROVEN, found.shown
    assert (found.images, found.differ, found.agreement) == (6, 0, 100.0)
    assert found.largest is not None
    assert found.largest <= 1e-5
    assert "ViTForImageClassification" in found.reference
    assert "CLIPImageProcessorPil" in found.reference


def test_the_answer_is_that_of_transformers_pipeline(folder: Path, images: ImageSet) -> None:
    pipe = transformers.pipeline("image-classification", model=str(folder), device="cpu")
    for path in images.paths:
        best = pipe(str(path), top_k=1)[0]
        answer = TransformersPipeline(folder).answer(path)
        assert answer.label == best["label"]
        assert answer.probability == pytest.approx(best["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("stage", "changes", "seed"),
    [
        (Stage.RESIZE, {"resample": 0}, 0),
        (Stage.RESIZE, {"size": {"shortest_edge": 45}}, 0),
        (Stage.NORMALISE, {"image_mean": [0.4, 0.5, 0.6]}, 0),
        (Stage.NORMALISE, {"image_std": [0.25, 0.25, 0.25]}, 0),
        (Stage.WEIGHTS, {}, 1),
    ],
)
def test_a_difference_is_named_by_its_stage(
    stage: Stage, changes: dict[str, Any], seed: int, float_model: Path, images: ImageSet, tmp_path: Path
) -> None:
    reference = TransformersPipeline(save(tmp_path / "other", seed, **changes))
    found = prove(reference, float_model, images)
    assert found.state is ProofState.DIFFERS
    assert found.stages == (stage,)
    assert f"the first stage that differs: {stage.value}" in found.reason


def test_an_odd_margin_halved_otherwise_is_named_as_the_crop(
    folder: Path, images: ImageSet, tmp_path: Path
) -> None:
    shifted = exported(folder, tmp_path / "shifted.onnx", crop_rule=CropRule.TORCHVISION)
    found = prove(TransformersPipeline(folder), shifted, images)
    assert found.state is ProofState.DIFFERS
    assert found.stages == (Stage.CROP,)


def test_other_names_for_the_same_classes_are_named_as_the_head(
    float_model: Path, images: ImageSet, tmp_path: Path
) -> None:
    renamed = save(tmp_path / "other", labels=("dog", "cat", "owl", "fox"))
    found = prove(TransformersPipeline(renamed), float_model, images)
    assert found.stages == (Stage.HEAD,)
    assert found.agreement == 0
    assert prove(TransformersPipeline(renamed, names_classes=False), float_model, images).differ == 0


def test_a_file_that_is_decoded_otherwise_is_named_as_the_decoding(
    folder: Path, float_model: Path, tmp_path: Path
) -> None:
    """Pillow's convert clips 16-bit grey to white, which transformers inherits; the runtime scales it."""
    values = np.linspace(0, 65535, 40 * 40).astype(np.uint16).reshape(40, 40)
    Image.fromarray(values).save(tmp_path / "grey.png")
    found = prove(TransformersPipeline(folder), float_model, list_images(tmp_path))
    assert found.stages == (Stage.DECODE,)
    assert "grey.png" in str(found.shown[0])


def test_no_more_than_some_differing_images_are_recorded(float_model: Path, tmp_path: Path) -> None:
    for seed in range(SHOWN + 3):
        picture(seed).save(tmp_path / f"{seed}.png")
    rows = [{"path": f"{seed}.png", "label": "cat", "probability": 0.0} for seed in range(SHOWN + 3)]
    (tmp_path / "said.json").write_text(json.dumps(rows))
    found = prove(Recorded(tmp_path / "said.json", tmp_path), float_model, list_images(tmp_path))
    assert found.differ == SHOWN + 3
    assert len(found.shown) == SHOWN


@pytest.mark.parametrize("problem", ["multi_label_classification", "one logit"])
def test_several_labels_and_one_logit_are_proven_too(problem: str, images: ImageSet, tmp_path: Path) -> None:
    """Transformers takes a sigmoid of both; to the runtime, one logit is two classes."""
    single = problem == "one logit"
    folder = save(tmp_path / "vit", labels=("cat",) if single else LABELS)
    config = json.loads((folder / "config.json").read_text())
    if not single:
        (folder / "config.json").write_text(json.dumps({**config, "problem_type": problem}))
    found = prove(TransformersPipeline(folder), exported(folder, tmp_path / "float.onnx"), images)
    assert found.state is ProofState.PROVEN, found.shown
    assert found.largest is not None
    assert found.largest <= 1e-5


# --- which reference runs


def test_an_onnx_file_has_no_pipeline_of_its_own(float_model: Path, images: ImageSet) -> None:
    source = resolve(str(float_model), SourceOptions())
    with pytest.raises(SourceError, match="an ONNX file says nothing of how its images are made"):
        own_reference(source)
    found = attempted(source, None, float_model, images, lambda *_: None)
    assert found.state is ProofState.NOT_PROVEN
    assert found.images == 0


@pytest.mark.skipif("timm" in sys.modules, reason="timm is here")
def test_timm_that_cannot_be_imported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SourceError, match="timm cannot be imported"):
        TimmPipeline(
            OwnPipeline(Library.TIMM, tmp_path / "w.safetensors", "vit_tiny_patch16_224"),
            PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.BICUBIC, (0.5,) * 3, (0.5,) * 3),
            3,
            OutputKind.SINGLE_LABEL,
        )


def test_a_folder_that_transformers_cannot_load_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="transformers cannot load") as caught:
        TransformersPipeline(tmp_path)
    assert str(tmp_path.parent) not in str(caught.value)


# --- what the user brings


def ours(float_model: Path, path: Path) -> tuple[str, float]:
    best = Classifier(float_model, provider="cpu")(path, top_k=1)[0]
    return best.label, best.score


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_recorded_predictions_prove_or_refute(
    kind: str, float_model: Path, images: ImageSet, tmp_path: Path
) -> None:
    said = [(path.name, *ours(float_model, path)) for path in images.paths]
    file = tmp_path / f"said.{kind}"

    def write(rows: list[tuple[str, str, float]]) -> Recorded:
        if kind == "csv":
            lines = ["path,label,probability", *(f"{p},{label},{score!r}" for p, label, score in rows)]
            file.write_text("\n".join(lines))
        else:
            file.write_text(
                json.dumps([{"path": p, "label": label, "probability": s} for p, label, s in rows])
            )
        return Recorded(file, images.paths[0].parent)

    assert prove(write(said), float_model, images).state is ProofState.PROVEN
    name, label, score = said[0]
    found = prove(write([(name, label, score - 0.01), *said[1:]]), float_model, images)
    assert (found.state, found.differ, found.agreement) == (ProofState.DIFFERS, 1, 100.0)
    assert found.largest == pytest.approx(0.01, abs=1e-6)
    assert found.shown[0].stage is None
    other = next(each for each in LABELS if each != label)
    found = prove(write([(name, other, score), *said[1:]]), float_model, images)
    assert found.differ == 1
    assert found.agreement == pytest.approx(100 * 5 / 6)


def test_labels_without_probabilities_are_compared_as_labels(
    float_model: Path, images: ImageSet, tmp_path: Path
) -> None:
    rows = [f"{path.name},{LABELS.index(ours(float_model, path)[0])}" for path in images.paths]  # by index
    (tmp_path / "said.csv").write_text("\n".join(["path,label", *rows]))
    found = prove(Recorded(tmp_path / "said.csv", images.paths[0].parent), float_model, images)
    assert found.state is ProofState.PROVEN


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("said.csv", "path,probability\na.png,0.5\n", "lacks the column label"),
        ("said.csv", "path,label\n", "holds no predictions"),
        ("said.csv", "path,label,probability\n0.png,cat,1.5\n", "probability '1.5'"),
        ("said.csv", "path,label,probability\n0.png,cat,much\n", "probability 'much'"),
        ("said.csv", "path,label\n0.png,\n", "prediction 1 has no label"),
        ("said.csv", "path,label\n,cat\n", "prediction 1 has no path"),
        ("said.json", "{", "is not JSON"),
        ("said.json", '{"a": 1}', "must be a list of objects"),
        ("said.json", '[{"path": 3, "label": "cat"}]', "has no path"),
    ],
)
def test_recorded_predictions_that_are_malformed_are_refused(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        Recorded(tmp_path / name, tmp_path)


def test_a_class_that_the_model_does_not_have_is_refused(
    float_model: Path, images: ImageSet, tmp_path: Path
) -> None:
    (tmp_path / "said.csv").write_text("path,label\n" + "".join(f"{p.name},yak\n" for p in images.paths))
    with pytest.raises(SourceError, match="'yak', which the model has no class for"):
        prove(Recorded(tmp_path / "said.csv", images.paths[0].parent), float_model, images)


CODE = """
from vit_edge import Classifier

def everything(path):
    found = Classifier({model!r}, provider="cpu")(path, top_k=4)
    return [each.score for each in sorted(found, key=lambda each: each.index)]

def mapping(path):
    return {{each.label: each.score for each in Classifier({model!r}, provider="cpu")(path, top_k=4)}}

def pair(path):
    best = Classifier({model!r}, provider="cpu")(path, top_k=1)[0]
    return best.label, best.score

def fails(path):
    raise RuntimeError("no camera")

def short(path):
    return [0.5, 0.5]

def wrong(path):
    return "cat"

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, float_model: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"reference_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CODE.format(model=str(float_model)))
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("function", ["everything", "mapping", "pair"])
def test_a_function_may_answer_in_three_ways(
    function: str, module: str, float_model: Path, images: ImageSet
) -> None:
    reference = user_reference(f"{module}:{function}", images.paths[0].parent, trust_code=True)
    assert prove(reference, float_model, images).state is ProofState.PROVEN


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", "fails on 0.png .RuntimeError: no camera"),
        ("short", "gives 2 probabilities for 0.png where the model has 4 classes"),
        ("wrong", "gives a str: it must give all probabilities"),
        ("number", "is no function"),
        ("absent", "cannot be imported"),
    ],
)
def test_a_function_that_does_not_answer_is_refused(
    function: str, message: str, module: str, float_model: Path, images: ImageSet
) -> None:
    with pytest.raises(SourceError, match=message):
        prove(user_reference(f"{module}:{function}", Path(), trust_code=True), float_model, images)


@pytest.mark.parametrize(
    ("text", "message"), [("x:y", "pass --trust-code"), ("said.txt", "is no .csv or .json file")]
)
def test_a_reference_of_no_known_form_or_not_trusted_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        user_reference(text, Path(), trust_code=False)


# --- the command


def test_parity_proves_and_says_what_ran(
    folder: Path, float_model: Path, images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", str(folder), str(float_model), "--data", str(images.paths[0].parent)]
    assert main([*words, "--json", str(tmp_path / "found.json")]) == 0
    assert "source -> float proven: transformers" in capsys.readouterr().out
    found = SourceParity.from_json(json.loads((tmp_path / "found.json").read_text()))
    assert (found.state, found.images) == (ProofState.PROVEN, 6)


def test_parity_lists_the_images_that_differ_and_fails(
    folder: Path, images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shifted = exported(folder, tmp_path / "shifted.onnx", crop_rule=CropRule.TORCHVISION)
    assert main(["parity", str(folder), str(shifted), "--data", str(images.paths[0].parent)]) == 1
    out = capsys.readouterr().out
    assert "source -> float differs" in out
    assert "(first in crop)" in out


def test_parity_says_not_proven_where_nothing_can_run(
    float_model: Path, images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", str(float_model), str(float_model), "--data", str(images.paths[0].parent)]
    assert main(words) == 3
    assert "not proven" in (out := capsys.readouterr().out)
    assert "--reference" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tolerance", "0"], "--tolerance must lie between 0 and 1"),
        (["--reference", "absent.csv"], "absent.csv cannot be read"),
    ],
)
def test_parity_refuses_bad_input(
    words: list[str], message: str, float_model: Path, images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["parity", str(float_model), str(float_model), "--data", str(images.paths[0].parent)]
    assert main([*start, *words]) == 2
    assert message in capsys.readouterr().err


def test_recorded_predictions_of_other_images_are_refused(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text("path,label\nelsewhere.png,cat\n")
    with pytest.raises(DatasetError, match="name none of the images"):
        covered(Recorded(tmp_path / "said.csv", tmp_path), images)
