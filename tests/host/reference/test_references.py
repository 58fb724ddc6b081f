"""Which pipeline answers for a source, and that what the user states is stated to it, too."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.host.output_kinds import folder_of, foreign
from tests.host.pictures import picture, pictures_in
from tests.host.vit_folder import PROCESSOR
from vit_edge.errors import SourceError
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.reference.stages import first_difference
from vit_edge.host.reference.timm_pipeline import transform_arguments
from vit_edge.host.reference.transformers_pipeline import TransformersPipeline
from vit_edge.host.reference.types import Answer, Pipeline, answer_of
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import ImageSet, list_images
from vit_edge.runtime.image.limits import DEFAULT_LIMITS
from vit_edge.runtime.model.file import read_model
from vit_edge.source_parity import ProofState, SourceParity, Stage
from vit_edge.spec import CropRule, Interpolation, OutputKind, PreprocessSpec, ResizeMode
from vit_edge.stated import StatedPreprocess

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return pictures_in(tmp_path_factory.mktemp("images"), 4)


def proof(source: Source, images: ImageSet, out: Path) -> SourceParity:
    export_model(source, out)
    return prove(own_reference(source), out, images)


STATED = {
    "statistics": SourceOptions(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "crop": SourceOptions(crop_pct=0.7, interpolation=Interpolation.BILINEAR),
    "size": SourceOptions(image_size=(48, 48)),
    "kind": SourceOptions(output_kind=OutputKind.MULTI_LABEL),
}


@pytest.mark.parametrize("what", STATED)
def test_what_options_state_is_stated_to_transformers_too(
    what: str, folder: Path, images: ImageSet, tmp_path: Path
) -> None:
    source = resolve(str(folder), STATED[what])
    found = proof(source, images, tmp_path / "m.onnx")
    assert found.state is ProofState.PROVEN, found.shown
    plain = prove(TransformersPipeline(folder), tmp_path / "m.onnx", images) if what != "size" else None
    assert plain is None or plain.state is ProofState.DIFFERS  # the option changes the answers
    stated = what == "size" or "with the stated options" in found.reference
    assert stated


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(crop_rule=CropRule.TORCHVISION), "round as torchvision does, which transformers"),
        (SourceOptions(image_size=(32, 48), crop_pct=0.9), "no resize that covers a size"),
    ],
)
def test_what_transformers_cannot_do_is_not_proven_and_said(
    options: SourceOptions, message: str, folder: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        own_reference(resolve(str(folder), options))


def test_an_onnx_file_beside_a_processor_is_proven_by_onnxruntime(images: ImageSet, tmp_path: Path) -> None:
    """As optimum leaves it: its own Softmax stays in the reference, and is taken off in the bundle."""
    folder = tmp_path / "optimum"
    folder.mkdir()
    file = foreign(folder / "model.onnx", 3, "Softmax")
    bare = resolve(str(file), SourceOptions())
    with pytest.raises(SourceError, match="an ONNX file says nothing of how its images are made: name what"):
        own_reference(bare)
    import onnx

    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, file)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**PROCESSOR, "size": {"shortest_edge": 19}, "crop_size": 16})
    )
    found = proof(resolve(str(folder), SourceOptions()), images, tmp_path / "m.onnx")
    assert found.state is ProofState.PROVEN, found.shown
    assert found.reference.startswith("onnxruntime on model.onnx with CLIPImageProcessorPil")
    stated = proof(resolve(str(folder), SourceOptions(mean=(0.1, 0.2, 0.3))), images, tmp_path / "m.onnx")
    assert stated.state is ProofState.PROVEN, stated.shown


def test_the_values_of_a_regression_are_compared(images: ImageSet, tmp_path: Path) -> None:
    folder_of(tmp_path / "source", 2, "regression")
    source = resolve(str(tmp_path / "source"), SourceOptions())
    found = proof(source, images, tmp_path / "m.onnx")
    assert found.state is ProofState.PROVEN, found.shown
    assert "the same values for 4 of 4 image files" in found.reason
    folder_of(tmp_path / "other", 2, "regression", seed=1)
    other = prove(TransformersPipeline(tmp_path / "other"), tmp_path / "m.onnx", images)
    assert (other.state, other.differ, other.stages) == (ProofState.DIFFERS, 4, (Stage.WEIGHTS,))


def test_own_code_has_no_pipeline_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own_model.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), "
        "torch.nn.Flatten())\n"
    )
    monkeypatch.chdir(tmp_path)
    stated = SourceOptions(
        trust_code=True, image_size=(8, 8), mean=HALF, std=HALF,
        interpolation=Interpolation.BICUBIC, resize_mode=ResizeMode.EXACT,
    )  # fmt: skip
    source = resolve("own_model:make", stated)
    with pytest.raises(SourceError, match=r"your own code gives a model.*--reference"):
        own_reference(source)


# --- where they part, and why


@dataclasses.dataclass(frozen=True)
class Decoder(Pipeline):
    """Decodes as Pillow does without looking at EXIF, as timm's and torchvision's data sets do."""

    name = "Pillow"

    def answer(self, path: Path) -> Answer:
        raise NotImplementedError

    def decoded(self, path: Path) -> Any:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    def pixel_values(self, path: Path) -> Any:
        raise NotImplementedError

    def logits(self, pixel_values: Any) -> Any:
        raise NotImplementedError


def cause_of(path: Path, data: Path) -> str:
    model = read_model(data / "dynamic.onnx")
    assert model.preprocess is not None
    found = first_difference(Decoder(), path, model, model.preprocess, DEFAULT_LIMITS)
    assert found.stage is Stage.DECODE
    return found.cause


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_source_that_does_not_turn_photos_is_named(orientation: int, data: Path, tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    picture(0).save(tmp_path / "turned.jpg", exif=tag)
    assert "does not turn photos by their EXIF tag" in cause_of(tmp_path / "turned.jpg", data)


def test_grey_of_16_bits_is_named(data: Path, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 1600).astype(np.uint16).reshape(40, 40)
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert "clips grey of more than 8 bits" in cause_of(tmp_path / "grey.png", data)


def test_causes_stand_in_the_reason_and_survive_the_manifest(folder: Path, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 1600).astype(np.uint16).reshape(40, 40)
    (tmp_path / "images").mkdir()
    Image.fromarray(values).save(tmp_path / "images" / "grey.png")
    export_model(resolve(str(folder), SourceOptions()), tmp_path / "m.onnx")
    found = prove(TransformersPipeline(folder), tmp_path / "m.onnx", list_images(tmp_path / "images"))
    assert "the first stage that differs: decode (the source clips grey" in found.reason
    assert SourceParity.from_json(json.loads(json.dumps(found.to_json()))) == found
    raw = found.to_json()
    for each in raw["shown"]:
        del each["cause"]  # as records from before it are
    assert SourceParity.from_json(raw).causes == ()


# --- timm, whose transform is asked for what is stated; tools/check_torchvision runs it where it is installed

SPEC = PreprocessSpec(64, 64, ResizeMode.SHORT_SIDE, (71, 71), Interpolation.BICUBIC, HALF, HALF)


def test_timm_is_told_what_is_stated() -> None:
    assert transform_arguments(StatedPreprocess(), SPEC) == {"input_size": (3, 64, 64)}
    stated = StatedPreprocess(
        mean=HALF, std=HALF, interpolation=Interpolation.LANCZOS, resize_mode=ResizeMode.EXACT, crop_pct=0.5
    )
    assert transform_arguments(stated, dataclasses.replace(SPEC, resize_mode=ResizeMode.EXACT)) == {
        "input_size": (3, 64, 64),
        "mean": HALF,
        "std": HALF,
        "interpolation": "lanczos",
        "crop_pct": 0.5,
        "crop_mode": "squash",
    }


@pytest.mark.parametrize(
    ("stated", "spec", "message"),
    [
        (StatedPreprocess(crop_rule=CropRule.TRANSFORMERS), SPEC, "timm's transform cannot"),
        (
            StatedPreprocess(resize_mode=ResizeMode.NONE),
            dataclasses.replace(SPEC, resize_mode=ResizeMode.NONE),
            "no resize as --resize-mode none",
        ),
    ],
)
def test_what_timm_cannot_do_is_said(stated: StatedPreprocess, spec: PreprocessSpec, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        transform_arguments(stated, spec)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        (OutputKind.SINGLE_LABEL, nn.Softmax(-1)),
        (OutputKind.MULTI_LABEL, nn.Sigmoid()),
        (OutputKind.REGRESSION, nn.Identity()),
    ],
)
def test_an_answer_is_made_of_numbers_by_their_kind(kind: OutputKind, function: nn.Module) -> None:
    values = np.array([-1.5, 2.0, 0.25], np.float32)
    expected = function(torch.from_numpy(values)).numpy()
    for given, activated in ((values, False), (expected, True)):
        found = answer_of(given, kind, activated=activated)
        assert found.index == 1
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
