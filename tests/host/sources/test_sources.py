"""`resolve`: every kind of source, what options override, and what is refused in one sentence."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from tests.host.vit_folder import SIZES
from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources import ARCHS, SourceKind, SourceOptions, resolve
from vit_edge.host.sources.archs import IMAGENET_MEAN, IMAGENET_STD
from vit_edge.host.sources.checkpoints import file_sha256
from vit_edge.host.sources.checkpoints.layouts.timm import TIMM
from vit_edge.host.sources.infer import described
from vit_edge.host.sources.labels import label_maps
from vit_edge.host.sources.preprocessing import from_processor, processor_notes, to_processor
from vit_edge.host.sources.timm_data import prepared
from vit_edge.host.vit import Distillation, Pooling, VisionTransformer
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

DATA = Path(__file__).parents[4] / "shared" / "data"
VIT_TINY = DATA / "vit_tiny_imagenet"
needs_data = pytest.mark.skipif(
    not VIT_TINY.is_dir(), reason="the ViT-Tiny ImageNet weights are not on this machine"
)
HALF = (0.5, 0.5, 0.5)
ALONE: dict[str, Any] = {
    "image_size": (32, 32),
    "mean": HALF,
    "std": HALF,
    "interpolation": Interpolation.BICUBIC,
    "resize_mode": ResizeMode.EXACT,
}


def save_huggingface(folder: Path, labels: int = 3) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        **SIZES,
        id2label={index: f"name {index}" for index in range(labels)},
        label2id={f"name {index}": index for index in range(labels)},
        initializer_range=0.2,
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    write(folder / "preprocessor_config.json", processor(size={"height": 32, "width": 32}))
    return model


def processor(**changes: Any) -> dict[str, Any]:
    base = {"image_processor_type": "ViTImageProcessor", "resample": 3, "image_mean": HALF, "image_std": HALF}
    return {**base, **changes}


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    write(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def tiny_state(classes: int = 3, averaged: bool = False) -> dict[str, torch.Tensor]:
    """Untrained weights of vit_tiny_patch16_224 under timm's keys."""
    shown = ["cls_token", "blocks.0.attn.qkv.bias", *(["fc_norm.weight"] if averaged else [])]
    keys = {"head.weight": torch.zeros(classes, 192), **dict.fromkeys(shown, torch.zeros(1))}
    return VisionTransformer(described(ARCHS["vit_tiny_patch16_224"], keys, TIMM, "made")).state_dict()


def save_onnx(path: Path, shape: list[Any], classes: Any = 3, metadata: dict[str, str] | None = None) -> Path:
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixel_values"], ["logits"])], "g", [image], [logits]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


# --- a Hugging Face folder


def test_a_huggingface_folder_is_read_whole(tmp_path: Path) -> None:
    theirs = save_huggingface(tmp_path)
    source = resolve(str(tmp_path), SourceOptions())
    assert source.kind is SourceKind.HUGGINGFACE
    assert source.name == tmp_path.name
    assert source.labels == ("name 0", "name 1", "name 2")
    assert source.sha256 == file_sha256(tmp_path / "model.safetensors")
    assert source.preprocess == PreprocessSpec(
        32, 32, ResizeMode.EXACT, (32, 32), Interpolation.BICUBIC, HALF, HALF, CropRule.TRANSFORMERS
    )
    assert source.module is not None
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(source.module(images), theirs(images).logits, atol=1e-5, rtol=0)


def test_what_the_folder_says_is_passed_on_without_where_it_once_lay(tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    edit(
        tmp_path / "config.json",
        _name_or_path="/home/someone/model",
        problem_type="single_label_classification",
    )
    source = resolve(str(tmp_path), SourceOptions())
    assert "_name_or_path" not in source.huggingface_config
    assert source.huggingface_config["problem_type"] == "single_label_classification"
    assert source.preprocessor_config == json.loads((tmp_path / "preprocessor_config.json").read_text())


def test_a_folder_that_names_no_classes_gets_placeholders_and_a_note(tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path / "config.json", {key: value for key, value in config.items() if "label" not in key})
    source = resolve(str(tmp_path), SourceOptions())
    assert source.labels == ("class 0", "class 1", "class 2")
    assert "pass a labels file" in source.labels_note


def test_a_pickled_folder_is_read_too(tmp_path: Path) -> None:
    model = save_huggingface(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    source = resolve(str(tmp_path), SourceOptions())
    assert source.sha256 == file_sha256(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"architectures": ["ResNetForImageClassification"]}, "ResNetForImageClassification"),
        ("config.json", {"architectures": None, "model_type": "swin"}, "cannot make a SwinForImageClass"),
        ("config.json", {"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu'"),
        ("config.json", {"hidden_size": "wide"}, "hidden_size must be an integer"),
        ("config.json", {"hidden_size": 34}, "dim 34 is no multiple of heads 4"),
        ("config.json", {"num_hidden_layers": 3}, r"lacks vit\.encoder\.layer\.2"),
        ("config.json", {"image_size": [32]}, "image_size must be a size"),
        ("config.json", {"layer_norm_eps": "small"}, "layer_norm_eps must be a finite number"),
        ("config.json", {"id2label": {"0": "a", "2": "b", "3": "c"}}, "must count from 0 to 2"),
        ("config.json", {"id2label": ["a", "b"]}, "names 2 classes but its head has 3"),
        ("config.json", {"id2label": "abc"}, "id2label must be an object"),
        ("config.json", {"id2label": {"0": "a"}}, "names 1 classes but its head has 3"),
        ("preprocessor_config.json", {"image_processor_type": "SegformerImageProcessor"}, "is not known"),
        (
            "preprocessor_config.json",
            {"size": {"height": 64, "width": 64}},
            "gives 64x64 pixels but the model sees 32x32",
        ),
        ("preprocessor_config.json", {"size": {"shortest_edge": 32}}, "without a centre crop"),
        ("preprocessor_config.json", {"size": {"longest_edge": 32}}, "size must be a size"),
        ("preprocessor_config.json", {"resample": 9}, "Pillow's integers 0 to 5"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "image_mean must be three numbers"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std must be positive"),
        ("preprocessor_config.json", {"do_resize": "yes"}, "do_resize must be true or false"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers must be from 0 to"),
        ("config.json", {"num_hidden_layers": 10**6}, "depth must be from 1 to 1024"),
        ("config.json", {"hidden_size": 10**30}, "hidden_size must be from 0 to"),
        ("config.json", {"num_channels": 1000}, "num_channels is 1000, but images are read as RGB"),
        ("config.json", {"num_channels": 1}, "num_channels is 1, but images are read as RGB"),
        ("config.json", {"image_size": 10**9}, "image_size must be a size"),
        ("config.json", {"image_size": 8192, "patch_size": 1}, "67108865 tokens"),
        ("config.json", {"layer_norm_eps": 10**400}, "layer_norm_eps must be a finite number"),
        ("config.json", {"hidden_act": ["gelu"]}, "hidden_act must be text"),
        ("config.json", {"architectures": [{"a": 1}]}, "architectures is"),
        ("config.json", {"id2label": 7}, "id2label must be an object"),
        ("preprocessor_config.json", {"image_processor_type": [1]}, "is not known"),
        ("preprocessor_config.json", {"image_mean": [10**400, 0, 0]}, "image_mean must be three numbers"),
        ("preprocessor_config.json", {"image_std": [1e-9, 1, 1]}, "std must be positive"),
        ("preprocessor_config.json", {"image_mean": [1e9, 1, 1]}, "mean must be from"),
        ("preprocessor_config.json", {"rescale_factor": -1}, "rescale_factor must be from"),
        ("preprocessor_config.json", {"rescale_factor": 1e9}, "rescale_factor must be from"),
        ("preprocessor_config.json", {"rescale_factor": 1e-9}, "rescale_factor must be from"),
        ("preprocessor_config.json", {"do_pad": True}, "do_pad is not supported"),
        ("preprocessor_config.json", {"do_center_crop": True}, "do_center_crop without a crop_size"),
        ("preprocessor_config.json", {"size": None}, "size must be a size or a height and a width"),
        ("preprocessor_config.json", {"resample": None}, "resample must be one of Pillow's integers"),
        ("preprocessor_config.json", {"image_std": None}, "image_std must be three numbers"),
        (
            "preprocessor_config.json",
            {"size": {"shortest_edge": 32, "longest_edge": 64}, "do_center_crop": True, "crop_size": 32},
            "size must be a size or a height and a width",
        ),
        (
            "preprocessor_config.json",
            {"image_processor_type": "ConvNextImageProcessor", "size": {"height": 32, "width": 32}},
            "size must be a shortest_edge",
        ),
        (
            "preprocessor_config.json",
            {"image_processor_type": "ConvNextImageProcessor", "size": 32, "crop_pct": 1.5},
            "crop_pct must be above 0",
        ),
        (
            "preprocessor_config.json",
            {"image_processor_type": "ConvNextImageProcessor", "size": 32, "do_center_crop": True},
            "besides a crop_pct is not supported",
        ),
        ("preprocessor_config.json", {"vit_edge_crop": "middle"}, "vit_edge_crop must be one of torchvision"),
    ],
)
def test_a_folder_that_says_something_else_is_refused_by_file_and_key(
    file: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_huggingface(tmp_path)
    edit(tmp_path / file, **changes)
    with pytest.raises(SourceError, match=message) as caught:
        resolve(str(tmp_path), SourceOptions())
    assert str(caught.value).count(str(tmp_path)) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_json_garbage_is_refused_by_file(file: str, content: bytes, tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SourceError, match=file):
        resolve(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", r"config\.json cannot be read"),
        ("model.safetensors", r"has no model\.safetensors"),
        ("preprocessor_config.json", "pass --mean, --std, --interpolation, --crop-pct or --resize-mode"),
    ],
)
def test_a_missing_part_is_named(file: str, message: str, tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "weight_map must be an object"),
        ({"weight_map": {"a": 3}}, "weight_map must be an object"),
        ({"weight_map": {"a": "absent.safetensors"}}, "names absent.safetensors, which is not there"),
        ({"weight_map": {"a": "../secret.safetensors"}}, "is no file of its own folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "is no file of its own folder"),
    ],
)
def test_an_index_of_shards_that_cannot_be_followed_is_refused(
    index: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_huggingface(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path / "model.safetensors.index.json", index)
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path), SourceOptions())


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(SourceError, match="not a complete safetensors file"):
        resolve(str(tmp_path), SourceOptions())


# --- preprocessing


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"size": 32}, (ResizeMode.EXACT, (32, 32), (32, 32))),
        ({"size": {"height": 24, "width": 40}}, (ResizeMode.EXACT, (24, 40), (24, 40))),
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32},
            (ResizeMode.SHORT_SIDE, (40, 40), (32, 32)),
        ),
        (
            {
                "image_processor_type": "DeiTFeatureExtractor",
                "size": 40,
                "crop_size": {"height": 32, "width": 24},
            },
            (ResizeMode.EXACT, (40, 40), (32, 24)),
        ),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": 40, "crop_size": 32},
            (ResizeMode.SHORT_SIDE, (40, 40), (32, 32)),
        ),
        ({"do_resize": False, "size": 32}, (ResizeMode.NONE, (32, 32), (32, 32))),
        (
            {"do_resize": False, "do_center_crop": True, "crop_size": 24},
            (ResizeMode.NONE, (24, 24), (24, 24)),
        ),
    ],
)
def test_geometry_is_read_in_every_spelling(raw: dict[str, Any], expected: tuple[Any, ...]) -> None:
    spec = from_processor(processor(**raw), "file")
    assert (spec.resize_mode, spec.resize, (spec.height, spec.width)) == expected


@pytest.mark.parametrize("kind", list(Interpolation))
def test_resample_is_pillows_integer(kind: Interpolation) -> None:
    number = int(Image.Resampling[kind.name])
    assert from_processor(processor(resample=number), "file").interpolation is kind


@pytest.mark.parametrize(
    ("raw", "pixel", "expected"),
    [
        ({}, 255, 1.0),
        ({"do_normalize": False}, 255, 1.0),
        ({"do_normalize": False}, 51, 0.2),
        ({"rescale_factor": 1 / 127.5, "do_normalize": False}, 255, 2.0),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, 51, -0.6),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, 0, -1.0),
    ],
)
def test_statistics_are_resolved_for_pixels_over_255(
    raw: dict[str, Any], pixel: int, expected: float
) -> None:
    spec = from_processor(processor(**raw), "file")
    assert (pixel / 255 - spec.mean[0]) / spec.std[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ViTImageProcessor", CropRule.TRANSFORMERS),
        ("ViTImageProcessorPil", CropRule.TRANSFORMERS),
        ("ViTFeatureExtractor", CropRule.TRANSFORMERS),
        ("ViTImageProcessorFast", CropRule.TRANSFORMERS_FAST),
    ],
)
def test_the_variant_of_the_processor_decides_the_crop_rule_and_is_noted(name: str, rule: CropRule) -> None:
    raw = processor(image_processor_type=name, size=32)
    assert from_processor(raw, "file").crop is rule
    (note,) = processor_notes(raw, "file")
    assert f"transformers 5 makes them with {name} and " in note
    assert ("and torchvision;" if name.endswith("Fast") else "and Pillow;") in note


@pytest.mark.parametrize(
    ("model_type", "resize", "crop", "whose"),
    [
        ("vit", (224, 224), 224, "as transformers does"),
        ("deit", (256, 256), 224, "as transformers does"),
        ("dinov2_with_registers", (224, 224), 224, "transformers knows none of dinov2_with_registers"),
    ],
)
def test_a_file_that_names_no_processor_is_read_as_its_models(
    model_type: str, resize: tuple[int, int], crop: int, whose: str
) -> None:
    spec = from_processor({}, "file", model_type)
    assert (spec.resize, spec.height) == (resize, crop)
    note = processor_notes({}, "file", model_type)[0]
    assert "names no image processor" in note
    assert whose in note


def test_a_processor_that_does_not_resize_is_noted() -> None:
    assert "do_resize false" in processor_notes(processor(do_resize=False, size=32), "file")[-1]


def test_a_processor_inside_a_processor_config_wins_as_in_transformers(tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    inner = processor(size={"shortest_edge": 40}, do_center_crop=True, crop_size=32)
    write(tmp_path / "processor_config.json", {"image_processor": inner})
    source = resolve(str(tmp_path), SourceOptions())
    assert source.preprocess.resize_mode is ResizeMode.SHORT_SIDE
    assert not any(str(tmp_path) in note for note in source.notes)


@pytest.mark.parametrize(
    "spec",
    [
        PreprocessSpec(32, 32, ResizeMode.EXACT, (32, 32), Interpolation.BILINEAR, HALF, HALF),
        PreprocessSpec(32, 24, ResizeMode.EXACT, (40, 30), Interpolation.BICUBIC, HALF, (0.2, 0.3, 0.4)),
        PreprocessSpec(224, 224, ResizeMode.SHORT_SIDE, (248, 248), Interpolation.LANCZOS, HALF, HALF),
        PreprocessSpec(32, 24, ResizeMode.NONE, (32, 24), Interpolation.NEAREST, HALF, HALF),
        PreprocessSpec(
            32, 24, ResizeMode.EXACT, (40, 30), Interpolation.BICUBIC, HALF, HALF, CropRule.TRANSFORMERS_FAST
        ),
    ],
)
def test_a_written_processor_config_is_read_back_equal(spec: PreprocessSpec) -> None:
    assert from_processor(json.loads(json.dumps(to_processor(spec))), "file") == spec


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        (SourceOptions(mean=(0.1, 0.2, 0.3)), "mean", (0.1, 0.2, 0.3)),
        (SourceOptions(std=(0.1, 0.2, 0.3)), "std", (0.1, 0.2, 0.3)),
        (SourceOptions(interpolation=Interpolation.LANCZOS), "interpolation", Interpolation.LANCZOS),
        (SourceOptions(crop_pct=0.9), "resize", (35, 35)),
        (SourceOptions(crop_pct=0.9), "resize_mode", ResizeMode.SHORT_SIDE),
        (SourceOptions(crop_pct=0.8, resize_mode=ResizeMode.EXACT), "resize", (40, 40)),
        (SourceOptions(crop_pct=0.8, resize_mode=ResizeMode.EXACT), "resize_mode", ResizeMode.EXACT),
        (SourceOptions(resize_mode=ResizeMode.NONE), "resize", (32, 32)),
        (SourceOptions(image_size=(48, 64)), "resize", (48, 64)),
        (SourceOptions(image_size=(48, 64), crop_pct=0.8), "resize", (60, 80)),
        (SourceOptions(image_size=(48, 64), crop_pct=0.8), "resize_mode", ResizeMode.COVER),
        (SourceOptions(crop_rule=CropRule.TORCHVISION), "crop", CropRule.TORCHVISION),
    ],
)
def test_an_option_overrides_what_the_folder_says(
    options: SourceOptions, field: str, expected: object, tmp_path: Path
) -> None:
    save_huggingface(tmp_path)
    source = resolve(str(tmp_path), options)
    assert getattr(source.preprocess, field) == expected
    if source.preprocess.resize_mode is not ResizeMode.COVER:  # which no processor of theirs has
        assert from_processor(source.preprocessor_config, "written") == source.preprocess


def test_another_image_size_scales_the_resize_and_the_positions(tmp_path: Path) -> None:
    save_huggingface(tmp_path)
    write(tmp_path / "preprocessor_config.json", processor(size=40, do_center_crop=True, crop_size=32))
    source = resolve(str(tmp_path), SourceOptions(image_size=(64, 64)))
    assert source.preprocess.resize == (80, 80)
    assert any("scaled in proportion" in note for note in source.notes)
    assert source.config is not None
    assert source.config.image_size == (64, 64)
    assert source.huggingface_config["image_size"] == 64
    assert source.module is not None
    assert source.module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (80, 80)], ids=["smaller", "not square", "larger"])
def test_a_huggingface_model_at_another_size_answers_as_transformers_does(
    size: tuple[int, int], tmp_path: Path
) -> None:
    theirs = save_huggingface(tmp_path)
    source = resolve(str(tmp_path), SourceOptions(image_size=size, resize_mode=ResizeMode.EXACT))
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = theirs(images, interpolate_pos_encoding=True).logits
    assert source.module is not None
    torch.testing.assert_close(source.module(images), expected, atol=1e-5, rtol=0)
    assert any("resampled from 4 x 4 to" in note and "transformers" in note for note in source.notes)


def test_a_distilled_huggingface_model_at_another_size_answers_as_transformers_does(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = transformers.DeiTConfig(**{**SIZES, "num_hidden_layers": 1}, num_labels=3, initializer_range=0.2)
    theirs = transformers.DeiTForImageClassificationWithTeacher(config).eval()
    theirs.save_pretrained(tmp_path)
    write(tmp_path / "preprocessor_config.json", processor(size=32))
    source = resolve(str(tmp_path), SourceOptions(image_size=(24, 24)))
    images = torch.randn(2, 3, 24, 24)
    assert source.module is not None
    expected = theirs(images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(source.module(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (0, 32)}, "image_size"),
        ({"image_size": (32, 5000)}, "image_size"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 1.1}, "crop_pct"),
        ({"crop_pct": 0.9, "resize_mode": ResizeMode.NONE}, "no meaning"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be positive"),
    ],
)
def test_an_impossible_option_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SourceOptions(**changes)


# --- labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "cat\ndog\nwolf, grey\n"),
        ("labels.txt", "cat\r\ndog\r\nwolf, grey\r\n\r\n"),
        ("labels.json", '["cat", "dog", "wolf, grey"]'),
        ("labels.json", '{"0": "cat", "2": "wolf, grey", "1": "dog"}'),
    ],
)
def test_a_labels_file_names_the_classes(name: str, content: str, tmp_path: Path) -> None:
    save_huggingface(tmp_path / "model")
    (tmp_path / name).write_text(content, encoding="utf-8")
    source = resolve(str(tmp_path / "model"), SourceOptions(labels=tmp_path / name))
    assert source.labels == ("cat", "dog", "wolf, grey")
    assert source.huggingface_config["id2label"] == {"0": "cat", "1": "dog", "2": "wolf, grey"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", b"cat\ndog\n", "names 2 classes but the head of .* has 3"),
        ("labels.txt", b"cat\n\ndog\n", "no empty line"),
        ("labels.txt", b"", "must name every class"),
        ("labels.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("labels.json", b'{"1": "cat"}', "count from 0"),
        ("labels.json", b"3", "must name every class"),
        ("labels.json", b"{", "not JSON"),
    ],
)
def test_an_unusable_labels_file_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    save_huggingface(tmp_path / "model")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path / "model"), SourceOptions(labels=tmp_path / name))


def test_an_absent_labels_file_is_named(tmp_path: Path) -> None:
    save_huggingface(tmp_path / "model")
    with pytest.raises(SourceError, match=r"absent\.txt cannot be read"):
        resolve(str(tmp_path / "model"), SourceOptions(labels=tmp_path / "absent.txt"))


# --- bare weights with a named architecture


@pytest.mark.parametrize(
    "form", ["timm:vit_tiny_patch16_224@{}", "timm:vit_tiny_patch16_224.augreg_in21k@{}", "{}"]
)
def test_named_weights_take_the_number_of_classes_from_their_head(form: str, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(tiny_state(classes=7), file)
    options = SourceOptions(arch=None if form.startswith("timm:") else "vit_tiny_patch16_224")
    source = resolve(form.format(file), options)
    assert source.kind is SourceKind.CHECKPOINT
    assert len(source.labels) == 7
    assert source.preprocess.resize == (math.floor(224 / 0.9),) * 2
    assert source.huggingface_config["architectures"] == ["ViTForImageClassification"]


@pytest.mark.parametrize(
    ("name", "mean", "std", "resize"),
    [
        ("vit_base_patch16_224", HALF, HALF, 248),
        ("vit_base_patch16_224.augreg_in21k", HALF, HALF, 248),
        ("vit_base_patch16_224.dino", IMAGENET_MEAN, IMAGENET_STD, 248),
        ("vit_base_patch16_224.mae", IMAGENET_MEAN, IMAGENET_STD, 248),
        (
            "vit_base_patch16_224.bamboo",
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
            224,
        ),
        ("vit_base_patch16_384.augreg_in1k", HALF, HALF, 384),
        ("deit_small_patch16_224.fb_in1k", IMAGENET_MEAN, IMAGENET_STD, 248),
    ],
)
def test_a_timm_tag_decides_the_statistics_and_the_crop(
    name: str, mean: tuple[float, ...], std: tuple[float, ...], resize: int, tmp_path: Path
) -> None:
    size = ARCHS[name.partition(".")[0]].size
    spec = prepared(name, tmp_path / "w.safetensors", (size, size), 1000, SourceOptions()).spec
    assert (spec.mean, spec.std, spec.resize) == (mean, std, (resize, resize))
    assert spec.crop is CropRule.TORCHVISION


def test_a_name_without_a_tag_has_timms_default_and_a_note(tmp_path: Path) -> None:
    found = prepared("vit_base_patch16_224", tmp_path / "w.safetensors", (224, 224), 1000, SourceOptions())
    (note,) = found.notes
    assert "timm's default, augreg2_in21k_ft_in1k (others: augreg_in21k_ft_in1k" in note
    assert (
        prepared("vit_base_patch16_224.sam_in1k", tmp_path / "w.pth", (224, 224), 1000, SourceOptions()).notes
        == ()
    )


def test_a_head_that_is_not_the_tags_is_noted(tmp_path: Path) -> None:
    save_file(tiny_state(classes=7), tmp_path / "w.safetensors")
    source = resolve(f"timm:vit_tiny_patch16_224.augreg_in21k@{tmp_path / 'w.safetensors'}", SourceOptions())
    assert any("a head of 7 classes is not that of" in note for note in source.notes)


def test_an_unknown_timm_tag_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"unknown timm tag 'mae' .* known are augreg_in21k_ft_in1k, "):
        resolve(f"timm:vit_tiny_patch16_224.mae@{tmp_path / 'w.safetensors'}", SourceOptions())


OWN_CONFIG = {
    "input_size": [3, 224, 224],
    "interpolation": "bilinear",
    "crop_pct": 0.8,
    "crop_mode": "center",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}


@pytest.mark.parametrize(
    ("changes", "mode", "resize"),
    [
        ({}, ResizeMode.SHORT_SIDE, 280),
        ({"crop_mode": "squash"}, ResizeMode.EXACT, 280),
        ({"crop_pct": None, "crop_mode": None}, ResizeMode.SHORT_SIDE, 256),
    ],
)
def test_a_checkpoints_own_data_config_wins_over_the_tag(
    changes: dict[str, Any], mode: ResizeMode, resize: int, tmp_path: Path
) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {**OWN_CONFIG, **changes}}
    write(tmp_path / "config.json", config)
    # A tag that timm does not know is the trainer's own name for it.
    source = resolve(f"timm:vit_tiny_patch16_224.mine@{tmp_path / 'w.safetensors'}", SourceOptions())
    spec = source.preprocess
    assert (spec.resize_mode, spec.resize) == (mode, (resize, resize))
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert spec.interpolation is Interpolation.BILINEAR
    assert not any("timm tag" in note for note in source.notes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"architecture": "vit_small_patch16_224", "pretrained_cfg": OWN_CONFIG},
            "is of vit_small_patch16_224",
        ),
        (
            {"pretrained_cfg": {**OWN_CONFIG, "crop_mode": "border"}},
            "pads with the mean colour.*--resize-mode exact",
        ),
        ({"pretrained_cfg": {**OWN_CONFIG, "crop_pct": 1.2}}, "crop_pct must be above 0"),
        ({"pretrained_cfg": {**OWN_CONFIG, "interpolation": "random"}}, "'random' is none of nearest"),
        ({"pretrained_cfg": {**OWN_CONFIG, "mean": 0.5}}, "mean must be three numbers"),
        ({"pretrained_cfg": {**OWN_CONFIG, "std": [0, 1, 1]}}, "std must be positive"),
    ],
)
def test_a_data_config_that_cannot_be_followed_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    write(tmp_path / "config.json", config)
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="vit_tiny_patch16_224"))


def test_what_options_state_need_not_be_known_in_a_data_config(tmp_path: Path) -> None:
    """The mend that a refusal names must lead out of it."""
    save_file(tiny_state(), tmp_path / "w.safetensors")
    own = {**OWN_CONFIG, "crop_mode": "border", "interpolation": "random"}
    write(tmp_path / "config.json", {"pretrained_cfg": own})
    stated = SourceOptions(
        arch="vit_tiny_patch16_224",
        resize_mode=ResizeMode.EXACT,
        crop_pct=0.5,
        interpolation=Interpolation.LANCZOS,
    )
    spec = resolve(str(tmp_path / "w.safetensors"), stated).preprocess
    assert (spec.resize_mode, spec.resize) == (ResizeMode.EXACT, (448, 448))
    assert (spec.interpolation, spec.mean) == (Interpolation.LANCZOS, (0.1, 0.2, 0.3))


def test_what_a_data_config_leaves_out_is_noted_unless_stated(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    own = {key: value for key, value in OWN_CONFIG.items() if key not in ("crop_pct", "std")}
    write(tmp_path / "config.json", {"pretrained_cfg": own})
    file, arch = str(tmp_path / "w.safetensors"), "vit_tiny_patch16_224"
    told = "config.json leaves crop_pct, std open, so timm's defaults are taken"
    assert told in resolve(file, SourceOptions(arch=arch)).notes
    stated = resolve(file, SourceOptions(arch=arch, crop_pct=0.9, std=(1, 1, 1))).notes
    assert not any("timm's defaults" in note for note in stated)


def test_weights_that_only_options_say_the_preprocessing_of_have_a_note_on_the_crop(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    stated = SourceOptions(mean=HALF, std=HALF, interpolation=Interpolation.BICUBIC, crop_pct=0.9)
    told = "an odd margin of the centre crop is halved as torchvision does it"
    assert any(told in note for note in resolve(file, stated).notes)
    ruled = dataclasses.replace(stated, crop_rule=CropRule.TRANSFORMERS)
    assert not any(told in note for note in resolve(file, ruled).notes)


@pytest.mark.parametrize("size", [(128, 128), (224, 160)], ids=["smaller", "not square"])
def test_timm_weights_at_another_size_are_preprocessed_as_timm_would(
    size: tuple[int, int], tmp_path: Path
) -> None:
    save_file(tiny_state(), tmp_path / "w.safetensors")
    source = resolve(
        str(tmp_path / "w.safetensors"), SourceOptions(arch="vit_tiny_patch16_224", image_size=size)
    )
    assert source.preprocess.resize == (math.floor(size[0] / 0.9), math.floor(size[1] / 0.9))
    square = size[0] == size[1]
    assert source.preprocess.resize_mode is (ResizeMode.SHORT_SIDE if square else ResizeMode.COVER)
    assert any("as in timm (bicubic, antialiased)" in note for note in source.notes)


def test_average_pooled_weights_are_recognised_by_their_norm(tmp_path: Path) -> None:
    save_file(tiny_state(averaged=True), tmp_path / "w.safetensors")
    config = resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="vit_tiny_patch16_224")).config
    assert config is not None
    assert config.pooling is Pooling.MEAN
    assert config.norm_after_pool


def test_every_architecture_has_sizes_that_fit() -> None:
    for name, arch in ARCHS.items():
        state = {"head.weight": torch.zeros(10, arch.dim), "cls_token": torch.zeros(1, 1, arch.dim)}
        config = described(arch, state, TIMM, name)
        assert name.endswith(f"_patch{arch.patch}_{arch.size}")
        assert config.distillation is (Distillation.HEAD if "distilled" in name else Distillation.NONE)
        spec = prepared(name, Path(f"{name}.safetensors"), config.image_size, 10, SourceOptions()).spec
        assert spec.height == config.image_size[0] == arch.size
        assert spec.mean == (IMAGENET_MEAN if "deit" in name else HALF)


# Published parameter counts in millions: Touvron et al. 2021, table 1, and Dosovitskiy et al. 2021, table 1.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("deit_tiny_patch16_224", 5.7),
        ("deit_small_patch16_224", 22.1),
        ("deit_base_distilled_patch16_224", 87.3),
        ("vit_base_patch16_224", 86.6),
        ("vit_large_patch16_224", 304.3),
    ],
)
def test_an_architecture_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    arch = ARCHS[name]
    state = {
        "head.weight": torch.zeros(1000, 1),
        "cls_token": torch.zeros(1),
        "blocks.0.attn.qkv.bias": torch.zeros(1),
    }
    with torch.device("meta"):
        model = VisionTransformer(described(arch, state, TIMM, name))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.06
    )


TIMM_FAMILIES = {
    "eva02_enormous_patch14_clip_224": "EVA-02",
    "beitv2_base_patch16_224": "BEiT",
    "swinv2_cr_tiny_224": "Swin V2",
}


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("w.safetensors", SourceOptions(), SourceError, "pass --mean, --std, --interpolation, --crop-pct"),
        (
            "w.safetensors",
            SourceOptions(arch="vit_tinny_patch16_224"),
            UsageError,
            "nearest are vit_tiny_patch16_224",
        ),
        ("w.safetensors", SourceOptions(arch="vit_base_patch16_224"), SourceError, "has shape"),
        (
            "w.safetensors",
            SourceOptions(arch="deit_tiny_distilled_patch16_224"),
            SourceError,
            "lacks dist_token",
        ),
        ("absent.pth", SourceOptions(arch="vit_tiny_patch16_224"), SourceError, r"absent\.pth is no file"),
        ("timm:resnet50@w.safetensors", SourceOptions(), UsageError, "unknown architecture 'resnet50'"),
        *(
            (
                f"timm:{name}@w.safetensors",
                SourceOptions(),
                UsageError,
                f"is a {family} of timm that is read through timm alone: pip install timm",
            )
            for name, family in TIMM_FAMILIES.items()
        ),
        (
            "timm:vit_small_patch16_dinov3@w.safetensors",
            SourceOptions(),
            SourceError,
            "does not have the parts and the width of vit_small_patch16_dinov3: check the architecture",
        ),
        ("timm:vit_tiny_patch16_224@", SourceOptions(), UsageError, "names no file behind the @"),
        ("timm:vit_tiny_patch16_224@w.safetensors", SourceOptions(arch="x"), UsageError, "leave --arch out"),
        ("w.onnx", SourceOptions(arch="vit_tiny_patch16_224"), UsageError, "only goes with a weights file"),
    ],
)
def test_named_weights_that_do_not_fit_are_refused(
    text: str,
    options: SourceOptions,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(tiny_state(), "w.safetensors")
    with pytest.raises(error, match=message):
        resolve(text, options)


def test_a_backbone_without_head_is_refused(tmp_path: Path) -> None:
    state = {key: value for key, value in tiny_state().items() if not key.startswith("head.")}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(SourceError, match=r"lacks head\.weight, so it is a backbone"):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="vit_tiny_patch16_224"))


# --- a Hugging Face id


def fake_cache(root: Path, hub_id: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_huggingface_id_is_found_in_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_huggingface(fake_cache(tmp_path, "someone/tiny-vit", monkeypatch))
    source = resolve("someone/tiny-vit", SourceOptions())
    assert source.name == "tiny-vit"
    assert source.labels[0] == "name 0"


def test_timm_weights_are_found_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fake_cache(tmp_path, "timm/vit_tiny_patch16_224.augreg_in21k", monkeypatch)
    save_file(tiny_state(), snapshot / "model.safetensors")
    assert resolve("timm:vit_tiny_patch16_224.augreg_in21k", SourceOptions()).kind is SourceKind.CHECKPOINT


@pytest.mark.parametrize("text", ["someone/absent-vit", "timm:vit_tiny_patch16_224"])
def test_an_id_that_is_not_cached_is_refused_without_the_network(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SourceError, match="not in the Hugging Face cache: download it first"):
        resolve(text, SourceOptions())


# --- an ONNX file


def test_an_onnx_file_that_says_everything_needs_no_option(tmp_path: Path) -> None:
    spec = PreprocessSpec(32, 32, ResizeMode.SHORT_SIDE, (40, 40), Interpolation.BICUBIC, HALF, HALF)
    metadata = {"vit_edge.labels": '["a", "b", "c"]', "vit_edge.preprocess": json.dumps(spec.to_json())}
    file = save_onnx(tmp_path / "m.onnx", ["batch", 3, 32, 32], metadata=metadata)
    source = resolve(str(file), SourceOptions())
    assert source.kind is SourceKind.ONNX
    assert source.onnx_path == file
    assert source.module is None
    assert (source.labels, source.preprocess) == (("a", "b", "c"), spec)


@pytest.mark.parametrize("shape", [["batch", 3, 32, 32], [1, 32, 32, 3]], ids=["NCHW", "NHWC"])
def test_a_silent_onnx_file_takes_its_preprocessing_from_options(shape: list[Any], tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "m.onnx", shape)
    source = resolve(str(file), SourceOptions(**ALONE))
    assert source.labels == ("class 0", "class 1", "class 2")
    assert (source.preprocess.height, source.preprocess.width) == (32, 32)


@pytest.mark.parametrize(
    ("shape", "classes", "metadata", "message"),
    [
        (["batch", 3, 32, 32], 3, {}, "pass --mean, --std, --interpolation, --crop-pct or --resize-mode"),
        (["batch", 3, "h", "w"], 3, {}, "leaves height and width of its images open: say with --image-size"),
        (["batch", 3072], 3, {}, "one input of rank 4"),
        (["batch", 1, 32, 32], 3, {}, "no axis of 3 colour channels"),
        (
            ["batch", 3, 32, 32],
            3,
            {"vit_edge.labels": '["a"]', "vit_edge.preprocess": "full"},
            "names 1 classes",
        ),
        (
            ["batch", 3, 32, 32],
            3,
            {"vit_edge.labels": "{", "vit_edge.preprocess": "full"},
            "unusable vit_edge.labels metadata",
        ),
        (
            ["batch", 3, 32, 32],
            3,
            {"vit_edge.labels": "[1]", "vit_edge.preprocess": "full"},
            "each item of labels",
        ),
        (["batch", 3, 32, 32], 3, {"vit_edge.preprocess": "{}"}, "unusable vit_edge.preprocess metadata"),
    ],
)
def test_an_onnx_file_that_is_no_described_classifier_is_refused(
    shape: list[Any], classes: object, metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    spec = PreprocessSpec(32, 32, ResizeMode.EXACT, (32, 32), Interpolation.BICUBIC, HALF, HALF)
    full = {key: json.dumps(spec.to_json()) if value == "full" else value for key, value in metadata.items()}
    file = save_onnx(tmp_path / "m.onnx", shape, classes, full)
    with pytest.raises(SourceError, match=message):
        resolve(str(file), SourceOptions())


@pytest.mark.parametrize("content", [b"", b"not onnx", bytes(range(256))])
def test_a_file_that_is_not_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(SourceError, match=r"m\.onnx is (no ONNX model|empty)"):
        resolve(str(tmp_path / "m.onnx"), SourceOptions())


def test_an_onnx_file_with_external_data_is_refused(tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "m.onnx", ["batch", 3, 32, 32])
    model = onnx.load(file)
    tensor = model.graph.initializer.add(name="weight", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(
        SourceError, match=r"keeps weight in '\.\./weights\.bin', which is no file of its own folder"
    ):
        resolve(str(file), SourceOptions(**ALONE))


def test_an_onnx_file_cannot_change_its_size(tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "m.onnx", ["batch", 3, 32, 32])
    with pytest.raises(SourceError, match="is fixed to 32x32 pixels"):
        resolve(str(file), SourceOptions(**{**ALONE, "image_size": (64, 64)}))


# --- own code

OWN_CODE = """
import torch
from torch import nn
from vit_edge.host.vit import VisionTransformer, VitConfig

def vit():
    return VisionTransformer(VitConfig((32, 32), (8, 8), 32, 1, 2, 48, 4))

def other():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))

def number():
    return 3

def broken():
    raise KeyError("weights")

def features():
    return nn.Conv2d(3, 8, 8, 8)
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN_CODE, encoding="utf-8")
    return lambda function: f"{name}:{function}"


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({}, False),
        ({"resize_mode": None, "crop_pct": 0.9}, True),
        ({"resize_mode": None, "crop_pct": 0.9, "crop_rule": CropRule.TRANSFORMERS}, False),
    ],
    ids=["no crop", "a crop", "a crop by a rule"],
)
def test_own_code_that_crops_by_nobodys_rule_is_noted(
    changes: dict[str, Any], noted: bool, own_code: Callable[[str], str]
) -> None:
    source = resolve(own_code("vit"), trusted(**changes))
    assert any("pass --crop-rule" in note for note in source.notes) is noted


def trusted(**changes: Any) -> SourceOptions:
    return SourceOptions(**{**ALONE, "trust_code": True, **changes})


def test_own_code_gives_the_model_and_options_the_rest(own_code: Callable[[str], str]) -> None:
    source = resolve(own_code("other"), trusted())
    assert source.kind is SourceKind.CALLABLE
    assert source.name == "other"
    assert len(source.labels) == 5
    assert source.module is not None
    assert not source.module.training
    assert len(source.sha256) == 64


def test_an_own_vision_transformer_brings_its_size(own_code: Callable[[str], str]) -> None:
    source = resolve(own_code("vit"), trusted(image_size=None))
    assert source.config is not None
    assert source.preprocess.height == 32
    assert source.huggingface_config["hidden_size"] == 32


@pytest.mark.parametrize(
    ("function", "changes", "error", "message"),
    [
        ("vit", {"trust_code": False}, UsageError, "set trust_code"),
        ("other", {"image_size": None}, SourceError, "pass --image-size"),
        ("other", {"mean": None, "std": None}, SourceError, "pass --mean, --std"),
        ("other", {"image_size": (64, 64)}, SourceError, "cannot classify images of 64x64 pixels"),
        ("number", {}, SourceError, "returned a int: it must return a torch.nn.Module"),
        ("broken", {}, SourceError, "failed with KeyError"),
        ("absent", {}, SourceError, "failed with AttributeError"),
        ("features", {}, SourceError, r"must map images \(2, 3, H, W\) to logits"),
    ],
)
def test_own_code_that_does_not_give_a_classifier_is_refused(
    function: str,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    own_code: Callable[[str], str],
) -> None:
    with pytest.raises(error, match=message):
        resolve(own_code(function), trusted(**changes))


def test_code_is_not_imported_without_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "untrusted_module.py").write_text("open('trace', 'w').close()")
    with pytest.raises(UsageError, match="set trust_code"):
        resolve("untrusted_module:model", SourceOptions())
    assert not (tmp_path / "trace").exists()


# --- nothing of all that


@pytest.mark.parametrize("text", ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "nowhere.onnx"])
def test_what_does_not_exist_is_said_to_be_absent(text: str) -> None:
    with pytest.raises(SourceError, match=r"does not exist|is no file"):
        resolve(text, SourceOptions())


def test_an_empty_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_huggingface(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="the source is empty"):
        resolve("", SourceOptions())
    assert resolve(".", SourceOptions()).name == tmp_path.name


def test_a_file_of_an_unknown_kind_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"HDF")
    with pytest.raises(SourceError, match="none of the files that can be read: pass a Hugging Face folder"):
        resolve(str(tmp_path / "model.h5"), SourceOptions())


# --- real weights


@needs_data
def test_real_weights_in_both_layouts_give_transformers_logits() -> None:
    theirs = transformers.ViTForImageClassification.from_pretrained(VIT_TINY / "hf").eval()
    sources = [
        resolve(str(VIT_TINY / "hf"), SourceOptions()),
        resolve(
            f"timm:vit_tiny_patch16_224@{VIT_TINY / 'timm_vit_tiny_patch16_224.safetensors'}", SourceOptions()
        ),
    ]
    files = sorted((DATA / "imagenet_calibration").iterdir())[:3]
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((224, 224)), np.float32) for file in files]
    images = torch.from_numpy(np.stack(pixels) / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = theirs(images).logits
        for source in sources:
            assert source.module is not None
            # Logits up to 15 through twelve float32 layers.
            torch.testing.assert_close(source.module(images), expected, atol=1e-4, rtol=0)


@needs_data
def test_real_preprocessing_obeys_the_file_and_the_option() -> None:
    stated = resolve(str(VIT_TINY / "hf"), SourceOptions()).preprocess
    assert (stated.resize_mode, stated.resize) == (ResizeMode.EXACT, (224, 224))
    overridden = resolve(str(VIT_TINY / "hf"), SourceOptions(crop_pct=0.9)).preprocess
    assert (overridden.resize_mode, overridden.resize) == (ResizeMode.SHORT_SIDE, (248, 248))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("cat", "dog"), ("cat", "dog")),
        (("crane", "heron", "crane"), ("crane (0)", "heron", "crane (2)")),
        (("a", "a", "a (0)"), ("a (0) (0)", "a (1)", "a (0) (2)")),
    ],
)
def test_equal_class_names_are_told_apart_by_their_index(
    labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    maps = label_maps(labels)
    assert tuple(maps["id2label"].values()) == names
    assert [maps["label2id"][name] for name in names] == list(range(len(labels)))
