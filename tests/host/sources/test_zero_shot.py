"""Classes that are named, not trained: texts of CLIP and SigLIP as a classifier, against transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.host.family_folders import SIDE, family_folder, tower_folder
from tests.host.output_kinds import folder_of
from tests.host.pictures import pictures_in
from vit_edge.errors import SourceError, UsageError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.source_parity import ProofState
from vit_edge.spec import OutputKind

NAMES = ("cat", "dog", "fox", "owl")
TEMPLATE = "a photo of no {}"
KINDS = {"clip": OutputKind.SINGLE_LABEL, "siglip": OutputKind.MULTI_LABEL}
TOLERANCE = 1e-4  # share of the largest logit: one normalization in place of another, in float32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return pictures_in(tmp_path_factory.mktemp("images"), 4)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("names") / "names.txt"
    file.write_text("\n".join(NAMES))
    return file


def theirs(folder: Path, template: str, images: torch.Tensor) -> torch.Tensor:
    """Logits of transformers' model for the texts as its pipeline makes them."""
    model = transformers.AutoModelForZeroShotImageClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding: dict[str, Any] = {"padding": True}
    if model.config.model_type == "siglip":
        padding = {"padding": "max_length", "max_length": 64, "truncation": True}
    tokens = tokenizer([template.format(name) for name in NAMES], return_tensors="pt", **padding)
    with torch.inference_mode():
        logits: torch.Tensor = model(pixel_values=images, **tokens).logits_per_image
    return logits


@pytest.mark.parametrize("template", [None, TEMPLATE, "{}"])
@pytest.mark.parametrize("model_type", KINDS)
def test_the_logits_are_transformers_zero_shot_logits(
    model_type: str, template: str | None, names: Path, tmp_path: Path
) -> None:
    tower_folder(tmp_path, model_type)
    source = resolve(str(tmp_path), SourceOptions(labels_text=names, template=template))
    assert source.labels == NAMES
    assert source.output is KINDS[model_type]
    assert source.huggingface_config["id2label"] == dict(zip("0123", NAMES, strict=True))
    assert source.module is not None
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    expected = theirs(tmp_path, template or "a photo of a {}", images)
    assert expected.std() > 0.01  # the texts tell images apart
    with torch.inference_mode():
        got = source.module(images)
    assert float((got - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("model_type", KINDS)
def test_it_is_proven_from_image_files_and_canonical(
    model_type: str, names: Path, pictures: ImageSet, tmp_path: Path
) -> None:
    tower_folder(tmp_path / "model", model_type)
    source = resolve(str(tmp_path / "model"), SourceOptions(labels_text=names, template=TEMPLATE))
    export_model(source, tmp_path / "m.onnx")
    reference = own_reference(source)
    found = prove(reference, tmp_path / "m.onnx", pictures)
    assert found.state is ProofState.PROVEN, found.shown
    assert "zero-shot" in found.reference
    assert _pipeline_agrees(tmp_path / "model", source, pictures)
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert described.classes == len(NAMES)


def _pipeline_agrees(folder: Path, source: Source, pictures: ImageSet) -> bool:
    """Whether the reference, whose text tower answers once, says what the untouched pipeline says."""
    pipe = transformers.pipeline(
        "zero-shot-image-classification", model=str(folder), device="cpu", use_fast=False
    )
    reference = own_reference(source)
    for path in pictures.paths:
        said = {
            each["label"]: each["score"]
            for each in pipe(str(path), candidate_labels=list(NAMES), hypothesis_template=TEMPLATE)
        }
        answer = reference.answer(path)
        assert answer.probabilities is not None
        np.testing.assert_allclose(answer.probabilities, [said[name] for name in NAMES], atol=0.02)
    return True


def test_other_texts_are_told_apart_by_the_proof(names: Path, pictures: ImageSet, tmp_path: Path) -> None:
    tower_folder(tmp_path / "model", "siglip")
    options = SourceOptions(labels_text=names, template=TEMPLATE)
    export_model(resolve(str(tmp_path / "model"), options), tmp_path / "m.onnx")
    other = resolve(str(tmp_path / "model"), SourceOptions(labels_text=names, template="{}"))
    assert prove(own_reference(other), tmp_path / "m.onnx", pictures).state is ProofState.DIFFERS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"template": "a photo"}, "must have one {}"),
        ({"template": "{} and {}"}, "must have one {}"),
        ({"template": "{name}"}, "must have one {}"),
        ({"labels_text": None, "template": "{}"}, "--template goes with --labels-text"),
        ({"labels": Path("labels.txt")}, "--labels and --labels-text both name the classes"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    given: dict[str, Any], message: str, names: Path, tmp_path: Path
) -> None:
    tower_folder(tmp_path, "siglip")
    with pytest.raises(UsageError, match=message):
        resolve(str(tmp_path), SourceOptions(**{"labels_text": names, **given}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\ncat\n", "names 'cat' twice: name each class once"),
        ("cat\n", "names one class: name at least two"),
        ("cat\n\ndog\n", "must name every class"),
        ("cat " * 200 + "\ndog\n", "cannot read the texts .*: shorten them"),
    ],
)
def test_names_that_cannot_be_asked_for_are_refused(content: str, message: str, tmp_path: Path) -> None:
    tower_folder(tmp_path / "model", "clip")
    (tmp_path / "names.txt").write_text(content)
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path / "model"), SourceOptions(labels_text=tmp_path / "names.txt"))


def test_a_model_without_a_text_tower_is_refused(names: Path, tmp_path: Path) -> None:
    options = SourceOptions(labels_text=names)
    family_folder(tmp_path / "clip", "clip")
    with pytest.raises(SourceError, match="which has no text tower: --labels-text goes with a folder"):
        resolve(str(tmp_path / "clip"), options)
    family_folder(tmp_path / "dinov2", "dinov2")
    with pytest.raises(SourceError, match="is of DINOv2, whose texts are not read: --labels-text goes with"):
        resolve(str(tmp_path / "dinov2"), options)
    folder_of(tmp_path / "vit", 3, None)
    with pytest.raises(UsageError, match=r"--labels-text goes with a CLIP or SigLIP .*, not vit"):
        resolve(str(tmp_path / "vit"), options)


def test_towers_without_names_give_embeddings_and_say_so(tmp_path: Path) -> None:
    tower_folder(tmp_path, "clip")
    source = resolve(str(tmp_path), SourceOptions())
    assert source.output is OutputKind.UNIT_EMBEDDING
    assert "its text tower is left out (name classes with --labels-text to use it)" in source.notes[1]


def test_a_folder_without_its_tokenizer_is_refused(names: Path, tmp_path: Path) -> None:
    tower_folder(tmp_path, "siglip")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    with pytest.raises(SourceError, match="the texts need the tokenizer that was saved with the model"):
        resolve(str(tmp_path), SourceOptions(labels_text=names))


def test_a_text_tower_of_absurd_size_is_refused(names: Path, tmp_path: Path) -> None:
    tower_folder(tmp_path, "clip")
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["text_config"]["num_hidden_layers"] = 10**9
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(SourceError, match="num_hidden_layers must be at most 1024"):
        resolve(str(tmp_path), SourceOptions(labels_text=names))
