"""timm's models, saved by timm, against timm's own answers from the same image files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.host.pictures import pictures_in
from vit_edge.errors import SourceError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.timm_names import PATH, timm_names
from vit_edge.source_parity import ProofState
from vit_edge.spec import OutputKind

timm = pytest.importorskip(
    "timm", reason="needs timm; `bash tools/libraries_check` runs these tests where it is"
)
RELATIVE = 1e-5  # of the largest number, float32 by two implementations
CLASSES = 7
EMBEDDING, CLASSIFIER = OutputKind.EMBEDDING, OutputKind.SINGLE_LABEL
# One of each kind, the smallest of its family; those of 0 classes have no head.
NAMES: dict[str, tuple[int, OutputKind]] = {
    "vit_wee_patch16_reg1_gap_256": (CLASSES, CLASSIFIER),
    "vit_little_patch16_reg4_gap_256": (CLASSES, CLASSIFIER),
    "vit_medium_patch16_gap_256": (CLASSES, CLASSIFIER),
    "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m": (512, EMBEDDING),
    "vit_base_patch32_clip_224.laion2b_ft_in1k": (CLASSES, CLASSIFIER),
    "vit_base_patch16_clip_quickgelu_224": (512, EMBEDDING),
    "vit_small_patch14_dinov2.lvd142m": (0, EMBEDDING),
    "vit_small_patch14_reg4_dinov2": (CLASSES, CLASSIFIER),
    "vit_base_patch32_siglip_256": (0, EMBEDDING),
    "vit_base_patch16_siglip_gap_224": (CLASSES, CLASSIFIER),
    "eva02_tiny_patch14_224": (CLASSES, CLASSIFIER),
    "eva02_base_patch14_224": (0, EMBEDDING),
    "eva02_base_patch16_clip_224": (512, EMBEDDING),
    "vit_small_patch16_dinov3": (0, EMBEDDING),
    "vit_small_plus_patch16_dinov3": (CLASSES, CLASSIFIER),
    "vit_small_patch16_dinov3_qkvb": (0, EMBEDDING),
    "vit_medium_patch16_rope_reg1_gap_256": (CLASSES, CLASSIFIER),
    "vit_base_patch16_plus_240": (CLASSES, CLASSIFIER),
    "beit3_base_patch16_224": (CLASSES, CLASSIFIER),
    "swin_tiny_patch4_window7_224.ms_in1k": (CLASSES, CLASSIFIER),
    "swin_s3_tiny_224": (CLASSES, CLASSIFIER),
    "swinv2_tiny_window8_256": (CLASSES, CLASSIFIER),
    "swinv2_base_window12to16_192to256": (CLASSES, CLASSIFIER),
}


def depth_of(name: str) -> dict[str, Any]:
    """Two layers, or two a stage, are enough to tell what a layer is."""
    return {"depths": (2, 2, 2, 2)} if name.startswith("swin") else {"depth": 2}


def model_of(name: str, classes: int) -> Any:
    """As timm makes it but for its depth, every parameter moved from its start."""
    torch.manual_seed(0)
    model = timm.create_model(name.partition(".")[0], num_classes=classes, **depth_of(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def saved(model: Any, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    return str(folder / "model.safetensors")


def hub_folder(model: Any, folder: Path, name: str, **changes: Any) -> str:
    """As timm's push_to_hf_hub writes it."""
    saved(model, folder)
    config = {
        "architecture": name,
        "num_classes": model.num_classes,
        "global_pool": model.global_pool,
        "pretrained_cfg": timm.models.get_pretrained_cfg(name).to_dict(),
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def assert_same(model: Any, source: Any) -> None:
    size = source.preprocess.height, source.preprocess.width
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = model(images), source.module(images)
    assert float((found - expected).abs().max() / expected.abs().max()) <= RELATIVE


@pytest.mark.parametrize("name", NAMES)
def test_a_file_by_its_name_gives_timms_numbers(name: str, tmp_path: Path) -> None:
    classes, kind = NAMES[name]
    model = model_of(name, classes)
    source = resolve(f"timm:{name}@{saved(model, tmp_path)}", SourceOptions())
    assert source.output is kind
    assert source.numbers == (classes or model.num_features)
    assert_same(model, source)


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch32_siglip_256", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3", "swin_s3_tiny_224"],
)
def test_a_folder_of_the_hub_gives_timms_numbers(name: str, tmp_path: Path) -> None:
    model = model_of(name, CLASSES)
    source = resolve(hub_folder(model, tmp_path, name, label_names=[*"abcdefg"]), SourceOptions())
    assert source.labels == tuple("abcdefg")
    assert_same(model, source)


@pytest.mark.parametrize(
    "name",
    [
        "vit_wee_patch16_reg1_gap_256",
        "vit_xsmall_patch16_clip_224",
        "vit_base_patch32_siglip_256",
        "eva02_tiny_patch14_224",
        "vit_small_plus_patch16_dinov3",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_from_the_image_file_to_the_answer_timm_and_the_runtime_agree(name: str, tmp_path: Path) -> None:
    """By a folder, whose config says the smaller depth to timm, and whose weights say it to us."""
    model = model_of(name, CLASSES)
    folder = hub_folder(model, tmp_path / "model", name)
    source = resolve(folder, SourceOptions())
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 3)
    if not name.startswith("swin"):  # which takes minutes; test_swin_keys.py has a small one
        assert canonical_of(source, export(source)[0]).description is not None
    export_model(source, tmp_path / "m.onnx")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_args": depth_of(name)}))
    found = prove(own_reference(source), tmp_path / "m.onnx", images)
    assert found.state is ProofState.PROVEN, found.reason
    assert found.largest is not None
    assert found.largest < RELATIVE


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_wee_patch16_reg1_gap_256", (128, 128)),
        ("vit_small_patch14_dinov2", (224, 224)),
        ("eva02_tiny_patch14_224", (112, 112)),
        ("vit_small_patch16_dinov3", (128, 192)),
    ],
)
def test_another_image_size_has_the_positions_that_timm_makes(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = model_of(name, CLASSES)
    source = resolve(f"timm:{name}@{saved(model, tmp_path)}", SourceOptions(image_size=size))
    model.set_input_size(size)
    assert_same(model, source)


def test_a_name_that_is_not_in_the_table_goes_through_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_pe_core_tiny_patch16_384", num_classes=CLASSES).eval()
    file = saved(model, tmp_path)
    source = resolve(f"timm:vit_pe_core_tiny_patch16_384@{file}", SourceOptions())
    assert any("the model is Eva of timm" in note for note in source.notes)
    assert_same(model, source)
    with pytest.raises(SourceError, match=r"timm cannot load model\.safetensors as vit_pe_core_small"):
        resolve(f"timm:vit_pe_core_small_patch16_384@{file}", SourceOptions())


def test_the_table_is_that_of_the_timm_here() -> None:
    """A name, and what it says of images; `python -m tools.timm_names` makes the table anew."""
    if json.loads(PATH.read_text())["timm"] != timm.__version__:
        pytest.skip(f"the table is of another timm than {timm.__version__}")
    from tools.timm_names import _tags

    names = timm_names()
    for name in list(names)[::9]:
        assert _tags(timm, name) == names[name].tags
