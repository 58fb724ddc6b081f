"""Loading checkpoints: against transformers' own models, under timm's keys, and what is refused by name."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints import (
    Resampling,
    build,
    detect_layout,
    file_sha256,
    read_state_dict,
    resize_position_embedding,
    to_huggingface,
)
from vit_edge.host.sources.checkpoints.layouts.huggingface import HUGGINGFACE, HUGGINGFACE_5
from vit_edge.host.sources.checkpoints.layouts.timm import TIMM
from vit_edge.host.vit import Distillation, Pooling, VisionTransformer, VitConfig

SMALL = VitConfig(
    image_size=(32, 32),
    patch_size=(8, 8),
    dim=32,
    depth=2,
    heads=4,
    mlp_dim=48,
    num_classes=5,
    layer_norm_eps=1e-12,
)
CASES = [
    pytest.param("ViTForImageClassification", Distillation.NONE, {}, id="ViT"),
    pytest.param(
        "ViTForImageClassification", Distillation.NONE, {"qkv_bias": False}, id="ViT without qkv bias"
    ),
    pytest.param("DeiTForImageClassification", Distillation.TOKEN, {}, id="DeiT"),
    pytest.param("DeiTForImageClassificationWithTeacher", Distillation.HEAD, {}, id="DeiT with teacher"),
]


def huggingface_model(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config_class = transformers.ViTConfig if name.startswith("ViT") else transformers.DeiTConfig
    config = config_class(
        image_size=SMALL.image_size[0],
        patch_size=SMALL.patch_size[0],
        hidden_size=SMALL.dim,
        num_hidden_layers=SMALL.depth,
        num_attention_heads=SMALL.heads,
        intermediate_size=SMALL.mlp_dim,
        num_labels=SMALL.num_classes,
        initializer_range=0.2,  # large enough that a swapped tensor shows
        **changes,
    )
    return getattr(transformers, name)(config).eval()


def own_model(**changes: Any) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(dataclasses.replace(SMALL, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def own_state(**changes: Any) -> dict[str, Tensor]:
    return own_model(**changes).state_dict()


def images(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "distillation", "changes"), CASES)
def test_a_saved_huggingface_model_gives_the_same_logits(
    name: str, distillation: Distillation, changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = huggingface_model(name, **changes)
    theirs.save_pretrained(tmp_path)
    state = read_state_dict(tmp_path / "model.safetensors")
    assert detect_layout(state, "file") is HUGGINGFACE
    ours = build(state, dataclasses.replace(SMALL, distillation=distillation, **changes), "file")
    # Float32 logits of order 1 from the same weights by two implementations.
    torch.testing.assert_close(ours(images()), theirs(images()).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "distillation", "changes"), CASES)
def test_a_state_dict_as_transformers_5_names_it_in_memory_gives_the_same_logits(
    name: str, distillation: Distillation, changes: dict[str, Any]
) -> None:
    theirs = huggingface_model(name, **changes)
    assert detect_layout(theirs.state_dict(), "memory") is HUGGINGFACE_5
    config = dataclasses.replace(SMALL, distillation=distillation, **changes)
    ours = build(theirs.state_dict(), config, "memory")
    torch.testing.assert_close(ours(images()), theirs(images()).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("distillation", list(Distillation))
def test_our_weights_published_in_huggingfaces_layout_come_back_equal(distillation: Distillation) -> None:
    model = own_model(distillation=distillation)
    published = to_huggingface(model.state_dict(), model.config)
    back = build(published, model.config, "published").state_dict()
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


def test_transformers_opens_what_we_publish(tmp_path: Path) -> None:
    model = own_model()
    huggingface_model("ViTForImageClassification").save_pretrained(tmp_path)  # for its config.json
    save_file(to_huggingface(model.state_dict(), SMALL), tmp_path / "model.safetensors", {"format": "pt"})
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(theirs(images()).logits, model(images()), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [{"register_tokens": 2}, {"norm_after_pool": True, "pooling": Pooling.MEAN}],
    ids=["registers", "norm behind the pooling"],
)
def test_a_variant_that_huggingface_does_not_have_is_not_published(changes: dict[str, Any]) -> None:
    model = own_model(**changes)
    with pytest.raises(SourceError, match="cannot be written in its layout"):
        to_huggingface(model.state_dict(), model.config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distillation": Distillation.HEAD},
        {"pooling": Pooling.MEAN, "norm_after_pool": True},
        {"pooling": Pooling.MEAN, "cls_token": False, "qkv_bias": False},
        {"register_tokens": 4},
    ],
    ids=["plain", "distilled", "fc_norm", "mean", "registers"],
)
def test_our_own_state_dict_loads_as_timms(changes: dict[str, Any]) -> None:
    model = own_model(**changes)
    assert detect_layout(model.state_dict(), "own") is TIMM
    loaded = build(model.state_dict(), model.config, "own")
    assert not loaded.training
    assert torch.equal(loaded(images()), model(images()))


def test_positions_for_the_patches_alone_add_nothing_to_the_prefix_tokens() -> None:
    state = own_state(register_tokens=2)
    state["pos_embed"] = state["pos_embed"][:, 3:]  # timm's no_embed_class
    loaded = build(state, dataclasses.replace(SMALL, register_tokens=2), "file")
    assert torch.equal(loaded.pos_embed[:, 3:], state["pos_embed"])
    assert not loaded.pos_embed[:, :3].any()


def test_resized_positions_keep_the_prefix_and_a_linear_ramp() -> None:
    rows = torch.arange(8.0)
    plane = rows[:, None, None].expand(8, 8, 4)
    positions = torch.cat([torch.full((1, 2, 4), -5.0), plane.reshape(1, 64, 4)], dim=1)
    resized = resize_position_embedding(positions, 2, (8, 8), (16, 12), TIMM.resampling)
    assert torch.equal(resized[:, :2], positions[:, :2])
    inner = resized[0, 2:].reshape(16, 12, 4)[4:12]
    expected = ((torch.arange(4.0, 12.0) + 0.5) / 2 - 0.5)[:, None, None].expand_as(inner)
    # A bicubic kernel reproduces a straight line exactly away from the border.
    torch.testing.assert_close(inner, expected, atol=1e-5, rtol=0)


def test_resized_positions_follow_pillows_antialiased_bicubic_filter() -> None:

    plane = torch.randn(14, 14, generator=torch.Generator().manual_seed(3))
    resized = resize_position_embedding(plane.reshape(1, -1, 1), 0, (14, 14), (7, 9), TIMM.resampling)
    resized = resized.reshape(7, 9)
    expected = np.asarray(Image.fromarray(plane.numpy()).resize((9, 7), Image.Resampling.BICUBIC))
    # Pillow and torch use the same kernel (a = -0.5) and support; float32 on values of order 1.
    torch.testing.assert_close(resized, torch.from_numpy(expected.copy()), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "resampling",
    [Resampling("any", antialias, corners) for antialias in (True, False) for corners in (True, False)],
)
def test_positions_at_their_own_size_are_unchanged(resampling: Resampling) -> None:
    positions = torch.randn(1, 17, 8)
    same = resize_position_embedding(positions, 1, (4, 4), (4, 4), resampling)
    torch.testing.assert_close(same, positions)


def test_another_image_size_is_classified_through_resized_positions() -> None:
    state = own_state()
    model = build(state, SMALL, "file", image_size=(48, 64))
    assert model.config.image_size == (48, 64)
    assert model.pos_embed.shape == (1, 1 + 6 * 8, SMALL.dim)
    assert model(torch.zeros(2, 3, 48, 64)).shape == (2, SMALL.num_classes)


def test_an_image_size_that_the_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(SourceError, match=r"file cannot run at another size: image_size \(30, 32\)"):
        build(own_state(), SMALL, "file", image_size=(30, 32))


def test_a_missing_key_is_named() -> None:
    state = own_state()
    del state["blocks.1.mlp.fc2.weight"]
    with pytest.raises(SourceError, match=r"lacks blocks\.1\.mlp\.fc2\.weight"):
        build(state, SMALL, "file")


def test_an_unexpected_key_is_named() -> None:
    with pytest.raises(SourceError, match=r"unexpected blocks\.0\.ls1\.gamma"):
        build({**own_state(), "blocks.0.ls1.gamma": torch.ones(32)}, SMALL, "file")


def test_many_unexpected_keys_are_counted() -> None:
    deeper = own_state(depth=4)
    with pytest.raises(SourceError, match="and 18 more"):
        build(deeper, SMALL, "file")


def test_a_missing_huggingface_key_is_named_as_the_file_names_it() -> None:
    state = to_huggingface(own_state(), SMALL)
    del state["vit.encoder.layer.0.attention.attention.key.bias"]
    with pytest.raises(SourceError, match=r"lacks vit\.encoder\.layer\.0\.attention\.attention\.key\.bias"):
        build(state, SMALL, "file")


def test_a_wrong_shape_is_named_with_both_shapes() -> None:
    state = {**own_state(), "head.weight": torch.zeros(5, 31)}
    with pytest.raises(SourceError, match=r"head\.weight has shape \(5, 31\) where \(5, 32\) is expected"):
        build(state, SMALL, "file")


def test_positions_of_another_image_size_are_named() -> None:
    state = {**own_state(), "pos_embed": torch.zeros(1, 26, 32)}
    with pytest.raises(SourceError, match=r"pos_embed has shape \(1, 26, 32\)"):
        build(state, SMALL, "file")


@pytest.mark.parametrize(
    "shapes", [((32, 32), (32, 32), (16, 32)), ((48, 32), (32, 32), (16, 32))], ids=["one", "same sum"]
)
def test_query_key_and_value_of_different_shapes_are_refused(shapes: tuple[tuple[int, int], ...]) -> None:
    state = to_huggingface(own_state(), SMALL)
    for part, shape in zip(("query", "key", "value"), shapes, strict=True):
        state[f"vit.encoder.layer.0.attention.attention.{part}.weight"] = torch.zeros(shape)
    with pytest.raises(SourceError, match=r"query, key and value differ in shape"):
        build(state, SMALL, "file")


@pytest.mark.parametrize(
    "key",
    ["vit.pooler.dense.weight", "vit.embeddings.mask_token", "mask_token", "decoder_blocks.0.norm.bias"],
)
def test_what_pretraining_left_over_is_accepted(key: str) -> None:
    state = to_huggingface(own_state(), SMALL)
    with_more = {**state, key: torch.zeros(1, 1, 32)}
    assert torch.equal(build(with_more, SMALL, "file")(images()), build(state, SMALL, "file")(images()))


@pytest.mark.parametrize("key", ["pre_logits.fc.weight", "norm_pre.weight", "vit.adapter.weight"])
def test_what_takes_part_in_the_answer_is_not(key: str) -> None:
    state = to_huggingface(own_state(), SMALL)
    with pytest.raises(SourceError, match=f"unexpected {re.escape(key)}"):
        build({**state, key: torch.zeros(32)}, SMALL, "file")


@pytest.mark.parametrize("keys", [(), ("conv1.weight", "fc.bias")], ids=["none", "a ResNet's"])
def test_unknown_keys_are_shown(keys: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=f"found {', '.join(keys) or 'none'}"):
        detect_layout(dict.fromkeys(keys, torch.zeros(1)), "file")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_pickled_state_dict_loads_without_running_code(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    torch.save(own_state(), file)
    state = read_state_dict(file)
    assert all(torch.equal(state[name], value) for name, value in own_state().items())


@pytest.mark.parametrize("container", ["state_dict", "model", "model_ema"])
def test_a_training_checkpoint_is_opened_at_its_weights(container: str, tmp_path: Path) -> None:
    torch.save(
        {"epoch": 3, container: {f"module.{k}": v for k, v in own_state().items()}}, tmp_path / "last.pth"
    )
    assert read_state_dict(tmp_path / "last.pth").keys() == own_state().keys()


def test_two_sets_of_weights_in_one_file_are_refused(tmp_path: Path) -> None:
    torch.save({"model": own_state(), "model_ema": own_state()}, tmp_path / "last.pth")
    with pytest.raises(SourceError, match=r"several sets of weights \(model, model_ema\)"):
        read_state_dict(tmp_path / "last.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({"weight": torch.tensor([0.5, -2.0], dtype=dtype)}, tmp_path / "w.safetensors")
    read = read_state_dict(tmp_path / "w.safetensors")["weight"]
    assert read.dtype is torch.float32
    assert read.tolist() == [0.5, -2.0]


class Command:
    """Writes a file when it is unpickled, as a hostile checkpoint would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


def test_a_pickle_with_code_is_refused_without_running_it(tmp_path: Path) -> None:
    torch.save({"state_dict": own_state(), "callback": Command(tmp_path / "trace")}, tmp_path / "last.pth")
    with pytest.raises(SourceError, match="pass --allow-pickle if you trust its author"):
        read_state_dict(tmp_path / "last.pth")
    assert not (tmp_path / "trace").exists()


def test_a_pickle_with_code_runs_it_only_when_allowed(tmp_path: Path) -> None:
    torch.save({"state_dict": own_state(), "callback": Command(tmp_path / "trace")}, tmp_path / "last.pth")
    assert read_state_dict(tmp_path / "last.pth", allow_pickle=True).keys() == own_state().keys()
    assert (tmp_path / "trace").read_text() == "ran"


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_called_damaged(suffix: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(own_state(), file)
    else:
        save_file(own_state(), file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(SourceError, match=r"weights\..*fetch it again"):
        read_state_dict(file)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\x80", b"PK\x03\x04", bytes(64)])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bytes_of_another_kind_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(SourceError, match="weights"):
        read_state_dict(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds no named tensors"),
        ({"weight": torch.zeros(2, dtype=torch.int64)}, "weight is torch.int64"),
        ({"weight": torch.zeros(2), "epoch": 3}, "epoch is int"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "weight contains NaN or infinity"),
    ],
)
def test_a_file_without_plain_weights_is_refused(value: object, message: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "odd.pth")
    with pytest.raises(SourceError, match=message):
        read_state_dict(tmp_path / "odd.pth")


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth", "weights.h5"])
def test_an_absent_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=name):
        read_state_dict(tmp_path / name)


def test_a_file_of_another_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"HDF")
    with pytest.raises(SourceError, match="its suffix must be one of"):
        read_state_dict(tmp_path / "weights.h5")


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == expected


def test_a_safetensors_file_that_safetensors_reads_gives_the_same_tensors(tmp_path: Path) -> None:
    save_file(own_state(), tmp_path / "w.safetensors")
    read, expected = read_state_dict(tmp_path / "w.safetensors"), load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(read[name], value) for name, value in expected.items())
