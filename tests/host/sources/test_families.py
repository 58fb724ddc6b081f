"""Folders of the families that transformers' own modules are taken of, against transformers itself."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.host.family_folders import CONFIGS, LABELS, SIDE, family_folder
from tests.host.pictures import picture, pictures_in
from vit_edge.cli import main
from vit_edge.errors import SourceError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.reference.transformers_pipeline import image_processor
from vit_edge.host.sources import SourceKind, SourceOptions, resolve, transformers_folder
from vit_edge.host.sources.families import FAMILIES
from vit_edge.runtime.image.limits import DEFAULT_LIMITS
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.source_parity import ProofState

TOLERANCE = 1e-5  # of logits about 1: attention written out, against torch's own kernel


@pytest.fixture(scope="module")
def photo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture(0).save(path)
    return path


def images(count: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- what is read


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_folder_answers_as_transformers_does(model_type: str, photo_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    family_folder(folder, model_type)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    source = resolve(str(folder), SourceOptions())
    assert source.kind is SourceKind.HUGGINGFACE
    assert source.labels == tuple(LABELS.values())
    assert source.numbers == len(LABELS)
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(
            source.module(images()), theirs(pixel_values=images()).logits, atol=TOLERANCE, rtol=TOLERANCE
        )
    assert f"the model is {type(theirs).__name__} of transformers" in source.notes[0]
    pixels = normalize(load_pixels(photo_file, source.preprocess, DEFAULT_LIMITS)[None], source.preprocess)[0]
    with Image.open(photo_file) as photo:
        made = image_processor(folder)(photo.convert("RGB"))["pixel_values"][0]
    np.testing.assert_allclose(pixels, made, atol=2e-6)


def test_no_path_of_the_author_is_published(tmp_path: Path) -> None:
    family_folder(tmp_path, "clip")
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["vision_config"]["_name_or_path"] = raw["_name_or_path"] = "/home/someone"
    (tmp_path / "config.json").write_text(json.dumps(raw))
    published = resolve(str(tmp_path), SourceOptions()).huggingface_config
    assert "/home/someone" not in json.dumps(published)
    assert published["vision_config"]["image_size"] == SIDE
    assert published["id2label"] == {"0": "cat", "1": "dog", "2": "fox"}


def test_a_weights_file_beside_its_config_is_read_with_it(tmp_path: Path) -> None:
    family_folder(tmp_path, "dinov2")
    whole = resolve(str(tmp_path), SourceOptions())
    alone = resolve(str(tmp_path / "model.safetensors"), SourceOptions())
    assert whole.module is not None
    assert alone.module is not None
    assert torch.equal(whole.module(images()), alone.module(images()))


@pytest.mark.parametrize("model_type", ["clip", "siglip", "vit_msn", "ijepa", "dinov2"])
def test_another_size_answers_as_transformers_does(model_type: str, tmp_path: Path) -> None:
    family_folder(tmp_path, model_type)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    source = resolve(str(tmp_path), SourceOptions(image_size=(48, 48)))
    assert (source.preprocess.height, source.preprocess.width) == (48, 48)
    assert source.module is not None
    with torch.inference_mode():
        expected = theirs(pixel_values=images(side=48), interpolate_pos_encoding=True).logits
        torch.testing.assert_close(source.module(images(side=48)), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert any("trained at 32x32 pixels, run at 48x48" in note for note in source.notes)


def test_dinov2_as_published_is_proven_from_image_files(tmp_path: Path) -> None:
    """Its config has one image size, its processor another, and the positions follow the processor."""
    family_folder(tmp_path / "model", "dinov2", image_size=56)
    source = resolve(str(tmp_path / "model"), SourceOptions())
    assert (source.preprocess.height, source.preprocess.width) == (SIDE, SIDE)
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", pictures_in(tmp_path, 4))
    assert found.state is ProofState.PROVEN, found.shown
    assert "Dinov2ForImageClassification" in found.reference
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.depth, described.tokens, described.classes) == (2, 17, 3)


def test_a_clip_classifier_is_canonical(tmp_path: Path) -> None:
    """With the QuickGELU and the first normalization that published ones have."""
    family_folder(tmp_path, "clip")
    source = resolve(str(tmp_path), SourceOptions())
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.depth, described.tokens, described.activation, described.classes) == (
        2,
        17,
        "quick_gelu",
        3,
    )


_CANONICAL = {  # how many tokens are computed, and what is pooled
    "data2vec-vision": (17, "mean and tokens 1..17"),
    "dinov2_with_registers": (19, "mean and tokens 0..1 and tokens 3..19"),
    "ijepa": (16, "mean"),
    "siglip": (16, "mean"),
    "vit_msn": (17, "tokens 0..1"),
}


@pytest.mark.parametrize("model_type", _CANONICAL)
def test_a_folder_of_a_family_is_exported_and_canonical(model_type: str, tmp_path: Path) -> None:
    family_folder(tmp_path, model_type)
    source = resolve(str(tmp_path), SourceOptions())
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.tokens, described.pooling) == _CANONICAL[model_type]


# --- what is refused

_NO_STAGES = {"out_features": None, "out_indices": None, "stage_names": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet' is none of the families .*ViT, DeiT, BEiT"),
        ({"model_type": None, "architectures": None}, "model_type None is none of the families"),
        ({"model_type": ["dinov2"]}, "is none of the families"),
        ({"model_type": "dinov3_vit"}, "is of DINOv3, and transformers has no classifier of it, only DINOv3"),
        ({"model_type": "siglip2"}, "is of SigLIP 2, and its NaFlex form takes patches of any aspect"),
        ({"architectures": ["Dinov2Backbone"]}, "which gives no classes: train a Dinov2ForImage"),
        ({"architectures": ["Dinov2ForImageClassification", "X"]}, "which gives no classes"),
        ({"architectures": "os.system"}, "which gives no classes"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1024"),
        ({"hidden_size": 10**30}, "hidden_size must be at most"),
        ({"hidden_size": 2**15}, "parameters, but the weights hold .* they are not of one model"),
        ({"hidden_size": "wide"}, "transformers cannot make a Dinov2ForImageClassification"),
        ({"image_size": 8192, "patch_size": 1}, "67108864 tokens, more than"),
        ({"image_size": "large"}, "image_size must be a size"),
        ({"num_channels": 1}, "num_channels is 1, but images are read as RGB: pass, as module:callable"),
        ({"num_channels": None}, "num_channels is None, but images are read as RGB"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "is quantized already"),
        ({"num_hidden_layers": 3}, r"they lack dinov2\.encoder\.layer\.2"),
        ({"num_hidden_layers": 1, **_NO_STAGES}, r"they have the unexpected dinov2\.encoder\.layer\.1"),
        ({"hidden_size": 64}, "have other shapes in"),
        ({"id2label": {"0": "a", "1": "b"}}, "have other shapes in classifier"),
    ],
)
def test_a_config_that_is_not_the_models_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    family_folder(tmp_path, "dinov2")
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(SourceError, match=message) as caught:
        resolve(str(tmp_path), SourceOptions())
    assert str(caught.value).count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("classifier.weight", None, "they lack classifier.weight"),
        (None, "dinov2.layernorm.gain", "they have the unexpected dinov2.layernorm.gain"),
        ("dinov2.embeddings.mask_token", None, None),
        (None, "decoder.weight", None),
    ],
)
def test_weights_are_never_made_up_nor_left_out_unsaid(
    lost: str | None, added: str | None, message: str | None, tmp_path: Path
) -> None:
    family_folder(tmp_path, "dinov2")
    state = load_file(tmp_path / "model.safetensors")
    kept = {key: value for key, value in state.items() if key != lost}
    save_file(kept | ({added: torch.ones(3)} if added else {}), tmp_path / "model.safetensors")
    if message is None:
        assert resolve(str(tmp_path), SourceOptions()).numbers == len(LABELS)
        return
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path), SourceOptions())


def test_an_image_size_that_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    family_folder(tmp_path, "clip", vision_config={**CONFIGS["clip"]["vision_config"], "image_size": 64})
    with pytest.raises(
        SourceError, match=r"made for 64x64, does not take images of 32x32 .*pass --image-size"
    ):
        resolve(str(tmp_path), SourceOptions())
    assert resolve(str(tmp_path), SourceOptions(image_size=(64, 64))).preprocess.height == 64


def test_without_transformers_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family_folder(tmp_path, "dinov2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SourceError, match="is of DINOv2, which is read through transformers: pip install"):
        resolve(str(tmp_path), SourceOptions())


def test_an_old_transformers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family_folder(tmp_path, "dinov2")
    monkeypatch.setattr(transformers_folder, "_LEAST_MAJOR", 99)
    with pytest.raises(SourceError, match=r"transformers 99 or newer, not \d.*: pip install --upgrade"):
        resolve(str(tmp_path), SourceOptions())


def test_no_code_of_a_folder_is_run(tmp_path: Path) -> None:
    family_folder(tmp_path, "dinov2")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    places = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    edit(tmp_path / "config.json", auto_map=places)
    assert resolve(str(tmp_path), SourceOptions()).numbers == len(LABELS)


def test_what_cannot_be_quantized_is_said_in_the_familys_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    family_folder(tmp_path / "model", "hiera")
    (tmp_path / "images").mkdir()
    picture(0).save(tmp_path / "images" / "0.png")
    capfd.readouterr()
    words = ["--calib", str(tmp_path / "images"), "-o", str(tmp_path / "m.onnx")]
    assert main(["quantize", str(tmp_path / "model"), *words]) == 2
    told = capfd.readouterr().err.strip()
    assert told.count("\n") == 0, told
    assert f"is of the Hiera family and has {FAMILIES['hiera'].apart}, which is not supported (" in told
    assert "`vit-edge export` writes it in float32" in told
    assert not (tmp_path / "m.onnx").exists()
