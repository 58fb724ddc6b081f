"""Swin and Swin V2 under Microsoft's, timm's and torchvision's keys, against transformers' logits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.types import Library

TOLERANCE = 2e-5  # of numbers about 1, float32 by two implementations
SIDES = {1: 224, 2: 256}
WINDOWS = {1: 7, 2: 8}
TIMM = {1: "swin_tiny_patch4_window7_224", 2: "swinv2_tiny_window8_256"}
TORCHVISION = {1: "swin_t", 2: "swin_v2_t"}
# transformers' names of a layer's parts, in Microsoft's words
_PARTS = {
    r"attention\.(?:o_proj|output\.dense)": "attn.proj",
    r"attention\.relative_position_bias\.": "attn.",
    r"attention\.self\.logit_scale": "attn.logit_scale",
    r"attention\.self\.continuous_position_bias_mlp": "attn.cpb_mlp",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"intermediate\.dense": "mlp.fc1",
    r"(?<!attention\.)output\.dense": "mlp.fc2",
}


def theirs(version: int, classes: int = 3) -> Any:
    torch.manual_seed(0)
    kind = "Swin" if version == 1 else "Swinv2"
    config = getattr(transformers, f"{kind}Config")(
        image_size=SIDES[version],
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=WINDOWS[version],
        num_labels=classes,
    )
    model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def microsofts(model: Any) -> dict[str, Tensor]:
    """The weights under the keys of Microsoft's own files, which merge at the end of a stage."""
    made: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        name = re.sub(r"^swin(?:v2)?\.(?:encoder\.)?", "", key)
        name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        name = name.replace("embeddings.norm", "patch_embed.norm")
        name = re.sub(r"^layernorm\.", "norm.", name).replace("classifier.", "head.")
        for pattern, ours in _PARTS.items():
            name = re.sub(pattern, ours, name)
        made[name] = value.clone()
    for key in [each for each in made if re.search(r"(?:query|q_proj)\.weight", each)]:
        stem = key.rpartition("attention.")[0]
        names = ("query", "key", "value") if "query" in key else ("q_proj", "k_proj", "v_proj")
        inner = "attention.self." if "query" in key else "attention."
        parts = [made.pop(f"{stem}{inner}{each}.weight") for each in names]
        biases = [made.pop(f"{stem}{inner}{each}.bias", None) for each in names]
        made[f"{stem}attn.qkv.weight"] = torch.cat(parts)
        if biases[1] is None:  # Swin V2
            assert biases[0] is not None
            assert biases[2] is not None
            made[f"{stem}attn.q_bias"], made[f"{stem}attn.v_bias"] = biases[0], biases[2]
        else:
            made[f"{stem}attn.qkv.bias"] = torch.cat([each for each in biases if each is not None])
    return made


def timms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of Microsoft's: timm merges at the start of a stage."""
    made = {}
    for key, value in state.items():
        moved = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", key)
        made[re.sub(r"^head\.", "head.fc.", moved)] = value
    return made


def torchvisions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of Microsoft's."""
    made = {}
    for key, value in state.items():
        name = re.sub(
            r"layers\.(\d+)\.blocks\.(\d+)\.", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.", key
        )
        name = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"features.{2 * int(m[1]) + 2}", name)
        name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        made[name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")] = value
    for key in [each for each in made if each.endswith("q_bias")]:
        query, value = made.pop(key), made.pop(key.replace("q_bias", "v_bias"))
        # its keys have a bias, which it leaves out of account
        whole = torch.cat([query, torch.ones_like(query), value])
        made[key.replace("q_bias", "qkv.bias")] = whole
    return made


LAYOUTS = {
    "Microsoft's": (microsofts, TIMM),
    "timm's": (lambda model: timms(microsofts(model)), TIMM),
    "torchvision's": (lambda model: torchvisions(microsofts(model)), TORCHVISION),
}


def saved(state: dict[str, Tensor], folder: Path) -> str:
    torch.save({"model": {key: value.clone() for key, value in state.items()}}, folder / "w.pth")
    return str(folder / "w.pth")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_give_the_logits_of_transformers(layout: str, version: int, tmp_path: Path) -> None:
    model = theirs(version)
    written, names = LAYOUTS[layout]
    source = resolve(saved(written(model), tmp_path), SourceOptions(arch=names[version]))
    side = SIDES[version]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(
            source.module(images), model(images).logits, atol=TOLERANCE, rtol=TOLERANCE
        )
    assert (source.preprocess.height, source.numbers) == (side, 3)
    assert source.own_pipeline is not None
    expected = Library.TORCHVISION if layout == "torchvision's" else Library.TIMM
    assert source.own_pipeline.library is expected


@pytest.mark.parametrize("version", [1, 2])
def test_a_swin_is_canonical(version: int, tmp_path: Path) -> None:
    source = resolve(saved(timms(microsofts(theirs(version))), tmp_path), SourceOptions(arch=TIMM[version]))
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.stages, described.pooling) == ((2, 2), "mean")


# --- what is refused


@pytest.mark.parametrize(
    ("layout", "arch", "message"),
    [
        ("torchvision's", None, "which do not say what size its images have: name it"),
        ("torchvision's", TIMM[1], "which do not say what size its images have: name it"),
        ("torchvision's", "swin_v2_t", "is no swin_v2_t: check whether it is a Swin or a Swin V2"),
        ("timm's", None, "no plain ViT, which do not say all of it: name it"),
        ("timm's", "swin_t", "does not have the keys of swin_t"),
        ("timm's", "vit_tiny_patch16_224", "is not the described ViT|lacks head"),
    ],
)
def test_another_name_is_refused(layout: str, arch: str | None, message: str, tmp_path: Path) -> None:
    written, _ = LAYOUTS[layout]
    with pytest.raises((SourceError, UsageError), match=message):
        resolve(saved(written(theirs(1)), tmp_path), SourceOptions(arch=arch))


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("layers.1.blocks.0.attn.relative_position_bias_table", None, "lacks layers.1.blocks.0.attn.relat"),
        ("layers.0.blocks.1.mlp.fc2.bias", None, r"it lacks layers\.0\.blocks\.1\.mlp\.fc2\.bias"),
        ("head.fc.weight", None, "lacks a patch embedding or a classifier"),
        (None, "layers.0.blocks.0.attn.gate", r"unexpected layers\.0\.blocks\.0\.attn\.gate"),
        (None, "layers.0.blocks.1.attn_mask", None),
    ],
)
def test_weights_are_never_made_up_nor_left_out_unsaid(
    lost: str | None, added: str | None, message: str | None, tmp_path: Path
) -> None:
    state = {key: value for key, value in timms(microsofts(theirs(1))).items() if key != lost}
    file = saved(state | ({added: torch.ones(3)} if added else {}), tmp_path)
    if message is None:
        assert resolve(file, SourceOptions(arch=TIMM[1])).numbers == 3
        return
    with pytest.raises(SourceError, match=message):
        resolve(file, SourceOptions(arch=TIMM[1]))


@pytest.mark.parametrize(("size", "names"), [((224, 230), TORCHVISION), ((256, 256), TIMM)])
def test_a_size_that_windows_do_not_divide_is_refused(
    size: tuple[int, int], names: dict[int, str], tmp_path: Path
) -> None:
    written = LAYOUTS["torchvision's" if names is TORCHVISION else "timm's"][0]
    with pytest.raises(SourceError, match=r"windows of 7 do not divide|leave --image-size out"):
        resolve(saved(written(theirs(1)), tmp_path), SourceOptions(arch=names[1], image_size=size))


def test_a_larger_image_has_more_windows(tmp_path: Path) -> None:
    model = theirs(1)
    options = SourceOptions(arch="swin_t", image_size=(448, 448))
    source = resolve(saved(torchvisions(microsofts(model)), tmp_path), options)
    images = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(1))
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(
            source.module(images), model(images).logits, atol=TOLERANCE, rtol=TOLERANCE
        )
