"""Folders of backbones and image towers without a classifier, against transformers' own vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.host.family_folders import IMAGE_TOWERS, SIDE, image_tower_folder
from tests.host.pictures import picture, pictures_in
from vit_edge import Classifier, Embedder
from vit_edge.errors import ModelError, SourceError, UsageError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import OptimizeSettings, export_model, optimize_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.unit import unit
from vit_edge.runtime.model.file import read_model
from vit_edge.source_parity import ProofState
from vit_edge.spec import CropRule, OutputKind

TOLERANCE = 1e-5  # of numbers about 1: attention written out, against torch's own kernel
# transformers' pooler_output
POOLED = ("Aimv2VisionModel", "BeitModel", "CLIPVisionModel", "SiglipVisionModel", "SwinModel")
# compared with texts
UNIT = ("Aimv2Model", "CLIPModel", "CLIPVisionModelWithProjection", "MetaClip2", "Siglip")


def theirs(model: Any, kind: str, images: torch.Tensor) -> torch.Tensor:
    """What transformers' documentation calls the vector of an image."""
    with torch.no_grad():
        if hasattr(model, "get_image_features"):
            vector = model.get_image_features(pixel_values=images).pooler_output
        elif "Projection" in kind:
            vector = model(pixel_values=images).image_embeds
        else:
            made = model(pixel_values=images)
            vector = made.pooler_output if kind in POOLED else made.last_hidden_state[:, 0]
    found: torch.Tensor = vector / vector.norm(dim=1, keepdim=True) if kind.startswith(UNIT) else vector
    return found


@pytest.mark.parametrize("kind", IMAGE_TOWERS)
def test_a_tower_is_read_and_gives_the_vector_of_transformers(kind: str, tmp_path: Path) -> None:
    model = image_tower_folder(tmp_path / "source", kind)
    source = resolve(str(tmp_path / "source"), SourceOptions())
    assert source.output is (OutputKind.UNIT_EMBEDDING if kind.startswith(UNIT) else OutputKind.EMBEDDING)
    assert source.labels == ()
    assert "id2label" not in source.huggingface_config
    assert f"the model is {kind} of transformers" in source.notes[0]
    assert "it has no classifier: its embedding is" in source.notes[1]
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert source.module is not None
    with torch.no_grad():
        made = source.module(images)
    torch.testing.assert_close(made, theirs(model, kind, images), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "kind", ["Aimv2Model", "CLIPVisionModelWithProjection", "DINOv3ViTModel", "SiglipModel", "ViTModel"]
)
def test_its_graph_becomes_canonical_and_is_named_for_what_it_gives(kind: str, tmp_path: Path) -> None:
    image_tower_folder(tmp_path, kind)
    source = resolve(str(tmp_path), SourceOptions())
    exported, _ = export(source)
    assert canonical_of(source, exported).description is not None
    assert [value.name for value in exported.graph.output] == ["embedding"]


@pytest.mark.parametrize("kind", ["Dinov2Model", "CLIPModel", "SiglipVisionModel"])
def test_from_the_image_file_to_the_vector_source_and_runtime_agree(kind: str, tmp_path: Path) -> None:
    image_tower_folder(tmp_path / "source", kind)
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 4)
    source = resolve(str(tmp_path / "source"), SourceOptions())
    file = tmp_path / "model.onnx"
    export_model(source, file)
    found = prove(own_reference(source), file, images)
    assert found.state is ProofState.PROVEN, found.reason
    assert found.largest is not None
    assert found.largest < TOLERANCE
    assert "gives the same embedding for 4 of 4 image files" in found.reason


def test_weights_of_another_model_are_found_out_by_the_proof(tmp_path: Path) -> None:
    image_tower_folder(tmp_path / "source", "Dinov2Model")
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 2)
    source = resolve(str(tmp_path / "source"), SourceOptions())
    export_model(source, tmp_path / "model.onnx")
    weights = tmp_path / "source" / "model.safetensors"
    state = load_file(weights)
    state["layernorm.bias"] += 0.01
    save_file(state, weights, {"format": "pt"})
    found = prove(own_reference(source), tmp_path / "model.onnx", images)
    assert found.state is ProofState.DIFFERS
    assert found.differ == 2


def test_a_file_of_a_tower_says_what_it_gives_and_opens_as_an_embedder_alone(tmp_path: Path) -> None:
    image_tower_folder(tmp_path / "source", "CLIPModel")
    file = tmp_path / "model.onnx"
    export_model(resolve(str(tmp_path / "source"), SourceOptions()), file)
    optimized = tmp_path / "optimized.onnx"
    optimize_model(file, optimized, OptimizeSettings())
    for path in (file, optimized):
        model = read_model(path)
        assert (model.output, model.labels) == (OutputKind.UNIT_EMBEDDING, None)
        assert model.outputs == {"embedding": (16,)}
        embed = Embedder(path, provider="cpu")
        assert (embed.dim, embed.grid, embed.has_cls, embed.kinds) == (16, (0, 0), False, ("pooled",))
        found = embed(picture(0))
        assert found.cls is None
        assert found.patches.shape == (0, 0, 16)
        assert np.linalg.norm(found.pooled) == pytest.approx(1.0, abs=1e-5)
        with pytest.raises(ModelError, match="is an embedder, not a classifier; open it with"):
            Classifier(path)
    again = resolve(str(optimized), SourceOptions())
    assert (again.output, again.labels, again.numbers) == (OutputKind.UNIT_EMBEDDING, (), 16)
    assert canonical_of(again, export(again)[0]).description is not None


def test_another_image_size_has_the_positions_that_transformers_makes(tmp_path: Path) -> None:
    model = image_tower_folder(tmp_path, "ViTModel")
    source = resolve(
        str(tmp_path), SourceOptions(image_size=(48, 48), crop_pct=1.0, crop_rule=CropRule.TRANSFORMERS)
    )
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    assert source.module is not None
    with torch.no_grad():
        expected = model(images, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        torch.testing.assert_close(source.module(images), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_vectors_are_brought_to_length_1_at_any_length() -> None:
    vectors = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    for length in (1e-3, 1.0, 1e3):
        expected = torch.nn.functional.normalize(vectors, dim=1)
        torch.testing.assert_close(unit(vectors * length), expected, atol=2e-6, rtol=1e-5)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"output_kind": OutputKind.SINGLE_LABEL},
            "gives embedding, not single_label_logits: leave",
        ),
        (
            {"output_kind": OutputKind.UNIT_EMBEDDING},
            "gives embedding, not unit_embedding: leave",
        ),
    ],
)
def test_options_that_a_tower_cannot_honour_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    image_tower_folder(tmp_path, "ViTModel")
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path), SourceOptions(**options))


def test_labels_and_texts_of_a_model_without_classes_are_refused(tmp_path: Path) -> None:
    image_tower_folder(tmp_path / "vit", "ViTModel")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(SourceError, match="labels"):
        resolve(str(tmp_path / "vit"), SourceOptions(labels=names))
    with pytest.raises((SourceError, UsageError), match=r"ViTModel|labels-text"):
        resolve(str(tmp_path / "vit"), SourceOptions(labels_text=names))


def test_a_classifier_is_not_called_an_embedding(tmp_path: Path) -> None:
    from tests.host.family_folders import family_folder

    family_folder(tmp_path, "dinov2")
    with pytest.raises(SourceError, match="leave --output-kind out, and pass --embedder for"):
        resolve(str(tmp_path), SourceOptions(output_kind=OutputKind.EMBEDDING))


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("BeitModel", "pooler.layernorm.weight"),  # transformers would fill it at random
        ("SiglipVisionModel", "head.probe"),
        ("CLIPVisionModelWithProjection", "visual_projection.weight"),
        ("ViTModel", "layernorm.weight"),
    ],
)
def test_weights_that_the_vector_needs_must_be_there(kind: str, key: str, tmp_path: Path) -> None:
    image_tower_folder(tmp_path, kind)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    [found] = [name for name in state if name.endswith(key)]
    del state[found]
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(SourceError, match=f"the weights are not those of the {kind}: they lack {found}"):
        resolve(str(tmp_path), SourceOptions())


def test_a_vit_without_its_pooler_is_read_as_the_pooler_is_not(tmp_path: Path) -> None:
    image_tower_folder(tmp_path, "ViTModel")
    weights = tmp_path / "model.safetensors"
    state = {key: value for key, value in load_file(weights).items() if not key.startswith("pooler.")}
    save_file(state, weights, {"format": "pt"})
    assert resolve(str(tmp_path), SourceOptions()).numbers == 32


def test_a_siglip_without_pooling_has_no_vector(tmp_path: Path) -> None:
    image_tower_folder(tmp_path, "SiglipVisionModel", vision_use_head=False)
    with pytest.raises(SourceError, match="it has no pooling of its own"):
        resolve(str(tmp_path), SourceOptions())


def test_dinov3_says_that_its_own_resize_is_another(tmp_path: Path) -> None:
    image_tower_folder(tmp_path, "DINOv3ViTModel")
    config = tmp_path / "preprocessor_config.json"
    raw = {**json.loads(config.read_text()), "image_processor_type": "DINOv3ViTImageProcessorFast"}
    config.write_text(json.dumps(raw))
    source = resolve(str(tmp_path), SourceOptions())
    with pytest.raises(SourceError, match="as numbers, by torchvision, which cannot be imported"):
        own_reference(source)
