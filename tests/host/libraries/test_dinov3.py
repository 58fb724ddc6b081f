"""DINOv3 from a folder, against transformers' own processor, which resizes numbers by torchvision."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

pytest.importorskip("torchvision")

import transformers

from tests.host.family_folders import image_tower_folder
from tests.host.pictures import pictures_in
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.source_parity import ProofState, SourceParity, Stage

SIDE = 64
PROCESSOR = "preprocessor_config.json"


@pytest.fixture
def pictures(tmp_path: Path) -> ImageSet:
    (tmp_path / "images").mkdir()
    return pictures_in(tmp_path / "images", 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    image_tower_folder(folder, "DINOv3ViTModel", image_size=SIDE)
    own = getattr(transformers, "DINOv3ViTImageProcessor", None) or transformers.DINOv3ViTImageProcessorFast
    own(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    export_model(resolve(str(folder), SourceOptions()), tmp_path / "model.onnx")
    return folder


def proof(folder: Path, pictures: ImageSet) -> SourceParity:
    return prove(own_reference(resolve(str(folder), SourceOptions())), folder.parent / "model.onnx", pictures)


def test_the_model_is_proven_on_the_bytes_that_lie_next_to_the_processors_numbers(
    folder: Path, pictures: ImageSet
) -> None:
    found = proof(folder, pictures)
    assert found.state is ProofState.PROVEN, found.reason
    assert found.largest is not None
    assert found.largest < 1e-5
    assert "torchvision" in found.reference
    assert "grey levels of the numbers that its processor resizes" in found.reason
    assert "not proven to be nothing" in found.reason


def test_another_resize_is_no_rounding_and_is_found_out(folder: Path, pictures: ImageSet) -> None:
    file = folder / PROCESSOR
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": 0}))
    found = proof(folder, pictures)
    assert found.state is ProofState.DIFFERS
    assert Stage.RESIZE in found.stages


def test_other_weights_are_found_out(folder: Path, pictures: ImageSet) -> None:
    weights = folder / "model.safetensors"
    state = load_file(weights)
    state["norm.bias"] += 0.01
    save_file(state, weights, {"format": "pt"})
    found = proof(folder, pictures)
    assert found.state is ProofState.DIFFERS
    assert found.differ == len(pictures)
