"""Classes that are only named, by the text tower of a CLIP that open_clip saved, against its own answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.host.libraries.test_open_clip import SIDE, TEXT, VISION, folder_of, open_clip
from tests.host.pictures import pictures_in
from vit_edge import Classifier
from vit_edge.cli import main
from vit_edge.errors import SourceError, UsageError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.source_parity import ProofState
from vit_edge.spec import OutputKind

NAMES = ("cat", "dog", "fire engine", "owl")
TEMPLATE = "a blurry photo of a {}."
WORDS = {**TEXT, "vocab_size": 49408, "context_length": 20}  # open_clip's own tokenizer
KINDS: dict[str, tuple[dict[str, Any], OutputKind]] = {
    "clip": ({"quick_gelu": True}, OutputKind.SINGLE_LABEL),
    "siglip": ({"init_logit_bias": -4.0, "custom_text": True}, OutputKind.MULTI_LABEL),
}
TOLERANCE = 1e-4  # of a probability, by other kernels in float32


@pytest.fixture
def names(tmp_path: Path) -> Path:
    file = tmp_path / "names.txt"
    file.write_text("\n".join(NAMES) + "\n")
    return file


@pytest.fixture
def pictures(tmp_path: Path) -> ImageSet:
    (tmp_path / "images").mkdir()
    return pictures_in(tmp_path / "images", 4)


def their_answer(model: Any, folder: Path, path: Path, kind: OutputKind) -> Any:
    """As open_clip's README has it."""
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([TEMPLATE.replace("{}", name) for name in NAMES])
    with torch.no_grad(), Image.open(path) as image:
        seen = model.encode_image(transform(image)[None], normalize=True)
        texts = model.encode_text(tokens, normalize=True)
        logits = model.logit_scale.exp() * seen @ texts.T
        if kind is OutputKind.MULTI_LABEL:
            return torch.sigmoid(logits + model.logit_bias)[0].numpy()
        return logits.softmax(dim=-1)[0].numpy()


@pytest.mark.parametrize("model", KINDS)
def test_a_folder_becomes_a_classifier_that_answers_as_open_clip(
    model: str, names: Path, pictures: ImageSet, tmp_path: Path
) -> None:
    folder, (config, kind) = tmp_path / "model", KINDS[model]
    theirs = folder_of(folder, {"text_cfg": WORDS, **config}, {})
    source = resolve(str(folder), SourceOptions(labels_text=names, template=TEMPLATE))
    assert (source.labels, source.output, source.numbers) == (NAMES, kind, len(NAMES))
    assert source.huggingface_config["id2label"] == dict(zip("0123", NAMES, strict=True))
    assert f"its classes are the texts {TEMPLATE!r} of 4 names, read by open_clip" in source.notes[0]
    export_model(source, tmp_path / "m.onnx")
    classify = Classifier(tmp_path / "m.onnx", provider="cpu")
    for path in pictures.paths:
        scores = {each.label: each.score for each in classify(path, top_k=len(NAMES))}
        expected = their_answer(theirs, folder, path, kind)
        np.testing.assert_allclose([scores[name] for name in NAMES], expected, atol=TOLERANCE)
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert described.classes == len(NAMES)


@pytest.mark.parametrize("model", KINDS)
def test_it_is_proven_by_open_clip_and_other_weights_are_found_out(
    model: str, names: Path, pictures: ImageSet, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder_of(folder, {"text_cfg": WORDS, **KINDS[model][0]}, {})
    source = resolve(str(folder), SourceOptions(labels_text=names, template=TEMPLATE))
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", pictures)
    assert found.state is ProofState.PROVEN, found.reason
    assert "zero-shot" in found.reference
    state = load_file(folder / "open_clip_model.safetensors")
    key = next(key for key in state if key.endswith("text_projection"))
    state[key] = state[key] + 0.5
    save_file(state, folder / "open_clip_model.safetensors")
    assert prove(own_reference(source), tmp_path / "m.onnx", pictures).state is ProofState.DIFFERS


def test_a_bare_file_by_name_has_its_texts_read_too(names: Path, tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32-alt").eval()
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    source = resolve(str(file), SourceOptions(arch="ViT-S-32-alt", labels_text=names))
    assert source.labels == NAMES
    assert source.module is not None
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    tokens = open_clip.get_tokenizer("ViT-S-32-alt")([f"a photo of a {name}" for name in NAMES])
    with torch.no_grad():
        expected = model.get_logits(images, tokens)[0]
        found = source.module(images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_file_without_its_text_tower_is_refused_in_a_sentence(names: Path, tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32-alt").eval()
    file = tmp_path / "weights.safetensors"
    save_file({key: each for key, each in model.state_dict().items() if key.startswith("visual.")}, file)
    with pytest.raises(SourceError, match=r"lacks .*, which ViT-S-32-alt of open_clip reads texts with"):
        resolve(str(file), SourceOptions(arch="ViT-S-32-alt", labels_text=names))


def test_another_size_is_run_with_the_positions_that_open_clip_makes(names: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "model", {"text_cfg": WORDS}, {})
    options = SourceOptions(labels_text=names, image_size=(2 * SIDE, 2 * SIDE))
    source = resolve(str(tmp_path / "model"), options)  # which compares logits with open_clip's own
    assert (source.preprocess.height, source.preprocess.width) == (2 * SIDE, 2 * SIDE)


def test_build_makes_a_normal_bundle_of_it(names: Path, pictures: ImageSet, tmp_path: Path) -> None:
    folder_of(tmp_path / "model", {"text_cfg": WORDS}, VISION)
    (tmp_path / "calibration").mkdir()
    pictures_in(tmp_path / "calibration", 9)
    images = ["--calib", str(tmp_path / "calibration"), "--data", str(tmp_path / "images")]
    words = ["--labels-text", str(names), "--template", TEMPLATE, *images]
    lenient = ["--preset", "static", "--threads", "1", "--max-changed", "100", "--quiet"]
    assert main(["build", str(tmp_path / "model"), *words, *lenient, "-o", str(tmp_path / "b")]) in (0, 3)
    assert {each.label for each in Classifier(tmp_path / "b")(pictures.paths[0], top_k=4)} == set(NAMES)


def test_a_labels_file_as_well_is_refused(names: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "model", {"text_cfg": WORDS}, {})
    with pytest.raises(UsageError, match="both name the classes: leave one out"):
        resolve(str(tmp_path / "model"), SourceOptions(labels_text=names, labels=names))


def test_one_of_several_sets_of_weights_cannot_be_asked_with_texts(names: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = folder_of(folder, {"text_cfg": WORDS}, {})
    (folder / "open_clip_model.safetensors").unlink()
    sets = {"model": model.state_dict(), "model_ema": model.state_dict()}
    torch.save(sets, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(SourceError, match=r"the texts are read by open_clip, .* leave --weights out"):
        resolve(str(folder), SourceOptions(labels_text=names, weights="model_ema"))


def test_a_tokenizer_that_is_not_in_the_folder_is_refused_in_a_sentence(names: Path, tmp_path: Path) -> None:
    text = {**WORDS, "hf_tokenizer_name": "somebody/words"}
    folder_of(tmp_path / "model", {"text_cfg": text, "custom_text": True}, {})
    with pytest.raises(SourceError, match="open_clip cannot read the texts with the tokenizer of model"):
        resolve(str(tmp_path / "model"), SourceOptions(labels_text=names))
