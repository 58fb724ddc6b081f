"""Every form in which trainers leave a checkpoint, against the logits of transformers' own model.

The docs have one row for each.
"""

import argparse
import dataclasses
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from vit_edge.errors import SourceError
from vit_edge.host.convert.export import export
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.checkpoints import build, read_state_dict
from vit_edge.host.sources.checkpoints.layout import Layout
from vit_edge.host.sources.checkpoints.layouts.torchvision import TORCHVISION, TORCHVISION_0_12
from vit_edge.host.vit import VitConfig
from vit_edge.spec import Interpolation, ResizeMode

DOCS = Path(__file__).parents[3] / "docs" / "checkpoints.md"
HALF = (0.5, 0.5, 0.5)
SIDE, LABELS = 48, ("ant", "bee", "cat")
TOLERANCE = 1e-5  # of logits of order one, float32 by two implementations
STATED = SourceOptions(mean=HALF, std=HALF, interpolation=Interpolation.BICUBIC, resize_mode=ResizeMode.EXACT)
NAMED = SourceOptions(arch="vit_tiny_patch16_224")
PICKLED = dataclasses.replace(STATED, allow_pickle=True)
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}


@pytest.fixture(scope="module")
def theirs() -> Any:
    """ViT-Tiny/16 for images of 48 pixels, so that its shapes are those of a published model."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=SIDE,
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
        initializer_range=0.1,  # large enough that a swapped tensor shows
    )
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture(scope="module")
def other() -> Any:
    """Other weights of the same shapes, such as an average over the training."""
    torch.manual_seed(1)
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=SIDE,
            hidden_size=192,
            num_attention_heads=3,
            intermediate_size=768,
            num_labels=3,
            initializer_range=0.1,
        )
    ).eval()


def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def timm_state(model: Any) -> dict[str, Tensor]:
    """The same weights under timm's keys, which are those of our own model."""
    config = VitConfig((SIDE, SIDE), (16, 16), 192, 12, 3, 768, 3, layer_norm_eps=1e-12)
    return dict(build(model.state_dict(), config, "model").state_dict())


def torchvision_state(model: Any, layout: Layout) -> dict[str, Tensor]:
    """The same weights under torchvision's keys; tests/host/libraries has them from torchvision itself."""
    config = VitConfig((SIDE, SIDE), (16, 16), 192, 12, 3, 768, 3)
    state = timm_state(model)
    return {key: state[name] for name, (key,) in layout.table(config, "it").items()}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def saved(value: object, path: Path) -> str:
    torch.save(value, path)
    return str(path)


def folder_of(model: Any, folder: Path, **changes: Any) -> Path:
    model.save_pretrained(folder, **changes)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def edit(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def binary(model: Any, folder: Path) -> Path:
    """As transformers 4 wrote it without safetensors, in two shards."""
    folder_of(model, folder)
    (folder / "model.safetensors").unlink()
    state = read_state_dict_of(model, folder)
    keys = sorted(state)
    names = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    parts = {names[0]: keys[:50], names[1]: keys[50:]}
    for name, part in parts.items():
        torch.save({key: state[key] for key in part}, folder / name)
    weight_map = {key: name for name, part in parts.items() for key in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def read_state_dict_of(model: Any, folder: Path) -> dict[str, Tensor]:
    model.save_pretrained(folder / "whole")
    return read_state_dict(folder / "whole" / "model.safetensors")


def timm_folder(model: Any, folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    save_file(timm_state(model), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 3,
        "global_pool": "token",
        "label_names": list(LABELS),
        "pretrained_cfg": {
            "input_size": [3, SIDE, SIDE],
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def optimum_folder(model: Any, folder: Path) -> Path:
    folder_of(model, folder)
    (folder / "model.safetensors").unlink()
    sizes = {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(model),
            (torch.zeros(2, 3, SIDE, SIDE),),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": sizes, "logits": {0: "batch_size"}},
        )
    return folder


class Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x).logits
        return logits


Writer = Callable[[Any, Path], str]

BARE: dict[str, tuple[Writer, SourceOptions]] = {
    "state dict, `.safetensors`": (
        lambda m, d: (save_file(timm_state(m), d / "w.safetensors"), str(d / "w.safetensors"))[1],
        NAMED,
    ),
    "state dict, `.pth`": (lambda m, d: saved(timm_state(m), d / "w.pth"), NAMED),
    "`.pt`": (lambda m, d: saved(timm_state(m), d / "w.pt"), NAMED),
    "`.pth.tar`": (lambda m, d: saved({"state_dict": timm_state(m)}, d / "w.pth.tar"), NAMED),
    "`.tar`": (lambda m, d: saved({"state_dict": timm_state(m)}, d / "w.tar"), NAMED),
    "`timm:NAME@FILE`": (
        lambda m, d: "timm:vit_tiny_patch16_224@" + saved(timm_state(m), d / "w.pth"),
        SourceOptions(),
    ),
    "`module.` (DataParallel)": (lambda m, d: saved(prefixed("module.", timm_state(m)), d / "w.pth"), NAMED),
    "`_orig_mod.` (torch.compile)": (
        lambda m, d: saved(prefixed("_orig_mod.", timm_state(m)), d / "w.pth"),
        NAMED,
    ),
    "`model.`, `backbone.` and other prefixes": (
        lambda m, d: saved(prefixed("backbone.", timm_state(m)), d / "w.pth"),
        NAMED,
    ),
    "several prefixes": (
        lambda m, d: saved(prefixed("module._orig_mod.model.", timm_state(m)), d / "w.pth"),
        NAMED,
    ),
    "`state_dict` with optimizer and arguments": (
        lambda m, d: saved(
            {
                "state_dict": timm_state(m),
                "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
                "args": argparse.Namespace(lr=0.1, model="vit"),
                "best": np.float64(0.9),
                "epoch": 3,
            },
            d / "last.pth",
        ),
        NAMED,
    ),
    "`model` within `state_dict`": (
        lambda m, d: saved({"state_dict": {"model": timm_state(m)}}, d / "last.pth"),
        NAMED,
    ),
    "Lightning `.ckpt`": (
        lambda m, d: saved(
            {
                "state_dict": {
                    **prefixed("model.", dict(m.state_dict())),
                    "criterion.weight": torch.ones(3),
                    "val_accuracy.total": torch.tensor([1, 2]),
                },
                "pytorch-lightning_version": "2.5.0",
                "hyper_parameters": {"lr": 0.1},
                "callbacks": {},
            },
            d / "epoch=3.ckpt",
        ),
        STATED,
    ),
    "`AveragedModel` of torch": (
        lambda m, d: saved(
            {**prefixed("module.", timm_state(m)), "n_averaged": torch.tensor(4)}, d / "w.pth"
        ),
        NAMED,
    ),
    "no `--arch`, timm's keys": (lambda m, d: saved(timm_state(m), d / "w.pth"), STATED),
    "no `--arch`, Hugging Face's keys": (lambda m, d: saved(dict(m.state_dict()), d / "w.pth"), STATED),
    "no `--arch`, torchvision's keys": (
        lambda m, d: saved(torchvision_state(m, TORCHVISION), d / "w.pth"),
        STATED,
    ),
    "torchvision's keys before version 0.13": (
        lambda m, d: saved(torchvision_state(m, TORCHVISION_0_12), d / "w.pth"),
        STATED,
    ),
    "Hugging Face's keys with `--arch`": (lambda m, d: saved(dict(m.state_dict()), d / "w.pth"), NAMED),
    "Hugging Face's keys beside a `config.json`": (
        lambda m, d: saved(dict(m.state_dict()), folder_of(m, d / "f") / "best.pth"),
        SourceOptions(),
    ),
    "left-over `mask_token`, pooler and decoder": (
        lambda m, d: saved(
            {
                **m.state_dict(),
                "vit.embeddings.mask_token": torch.ones(1, 1, 192),
                "vit.pooler.dense.weight": torch.ones(192, 192),
                "decoder.0.weight": torch.ones(8),
            },
            d / "w.pth",
        ),
        STATED,
    ),
    "whole pickled module, with `--allow-pickle`": (lambda m, d: saved(m, d / "model.pt"), PICKLED),
    "pickled module in a container, with `--allow-pickle`": (
        lambda m, d: saved({"epoch": 3, "model": m}, d / "model.pt"),
        PICKLED,
    ),
}
FOLDERS: dict[str, Writer] = {
    "Hugging Face folder": lambda m, d: str(folder_of(m, d / "f")),
    "sharded safetensors": lambda m, d: str(folder_of(m, d / "f", max_shard_size="5MB")),
    "sharded `.bin`": lambda m, d: str(binary(m, d / "f")),
    "Trainer checkpoint folder": lambda m, d: str(trainer_folder(m, d / "checkpoint-500")),
    "folder with one `checkpoint-N/`": lambda m, d: str(folder_of(m, d / "run" / "checkpoint-500").parent),
    "`id2label` as a list": lambda m, d: str(edit(folder_of(m, d / "f"), id2label=list(LABELS))),
    "timm hub folder": lambda m, d: str(timm_folder(m, d / "f")),
    "optimum folder (`model.onnx`)": lambda m, d: str(optimum_folder(m, d / "f")),
}


def trainer_folder(model: Any, folder: Path) -> Path:
    folder_of(model, folder)
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    torch.save(argparse.Namespace(lr=0.1), folder / "training_args.bin")
    (folder / "trainer_state.json").write_text("{}")
    return folder


def logits_of(text: str, options: SourceOptions) -> Tensor:
    source = resolve(text, options)
    if source.module is not None:
        with torch.inference_mode():
            made: Tensor = source.module(images())
        return made
    model, _ = export(source)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": images().numpy()})[0])


@pytest.mark.parametrize("form", BARE)
def test_a_bare_file_gives_the_logits_of_transformers(form: str, theirs: Any, tmp_path: Path) -> None:
    writer, options = BARE[form]
    found = logits_of(writer(theirs, tmp_path), options)
    # timm's epsilon is 1e-6 where Hugging Face's is 1e-12
    torch.testing.assert_close(found, theirs(images()).logits, atol=10 * TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", FOLDERS)
def test_a_folder_gives_the_logits_of_transformers_and_its_labels(
    form: str, theirs: Any, tmp_path: Path
) -> None:
    text = FOLDERS[form](theirs, tmp_path)
    assert resolve(text, SourceOptions()).labels == LABELS
    found = logits_of(text, SourceOptions())
    torch.testing.assert_close(found, theirs(images()).logits, atol=10 * TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", [*BARE, *FOLDERS])
def test_a_form_is_a_row_of_the_documentation(form: str) -> None:
    assert f"| {form} |" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_give_the_logits_of_their_values(
    kind: torch.dtype, theirs: Any, tmp_path: Path
) -> None:
    narrow = {key: value.to(kind) for key, value in theirs.state_dict().items()}
    reference = transformers.ViTForImageClassification(theirs.config).eval()
    reference.load_state_dict({key: value.float() for key, value in narrow.items()})
    found = logits_of(saved(narrow, tmp_path / "w.pth"), STATED)
    torch.testing.assert_close(found, reference(images()).logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("averaged", "name"),
    [("model_ema", "model_ema"), ("ema", "ema"), ("state_dict_ema", "state_dict_ema")],
)
def test_of_a_model_and_its_average_the_one_that_is_asked_for_is_taken(
    averaged: str, name: str, theirs: Any, other: Any, tmp_path: Path
) -> None:
    file = saved(
        {"model": timm_state(theirs), averaged: prefixed("module.", timm_state(other))}, tmp_path / "last.pth"
    )
    with pytest.raises(SourceError, match=rf"several sets of weights \(model, {name}\): say with --weights"):
        resolve(file, NAMED)
    for wanted, model in (("model", theirs), (name, other)):
        found = logits_of(file, dataclasses.replace(NAMED, weights=wanted))
        torch.testing.assert_close(found, model(images()).logits, atol=10 * TOLERANCE, rtol=0)


def test_an_average_alone_is_taken(theirs: Any, tmp_path: Path) -> None:
    file = saved({"model_ema": prefixed("module.", timm_state(theirs)), "epoch": 1}, tmp_path / "last.pth")
    torch.testing.assert_close(logits_of(file, NAMED), theirs(images()).logits, atol=10 * TOLERANCE, rtol=0)


@pytest.mark.parametrize("wanted", ["teacher", "student"])
def test_of_two_models_in_one_state_dict_the_one_that_is_asked_for_is_taken(
    wanted: str, theirs: Any, other: Any, tmp_path: Path
) -> None:
    state = {**prefixed("student.", timm_state(theirs)), **prefixed("teacher.", timm_state(other))}
    file = saved({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(SourceError, match="state_dict/student, state_dict/teacher"):
        resolve(file, NAMED)
    found = logits_of(file, dataclasses.replace(NAMED, weights=wanted))
    expected = (theirs if wanted == "student" else other)(images()).logits
    torch.testing.assert_close(found, expected, atol=10 * TOLERANCE, rtol=0)


def test_an_unknown_set_of_weights_is_refused_with_those_there_are(theirs: Any, tmp_path: Path) -> None:
    file = saved({"model": timm_state(theirs)}, tmp_path / "last.pth")
    with pytest.raises(SourceError, match="no weights named ema: there are model"):
        resolve(file, dataclasses.replace(NAMED, weights="ema"))


def test_a_head_outside_the_model_is_refused_and_not_guessed(theirs: Any, tmp_path: Path) -> None:
    state = {**prefixed("backbone.", timm_state(theirs)), "fc.weight": torch.ones(7, 3)}
    with pytest.raises(SourceError, match=r"has fc\.weight beside the weights under 'backbone\.'"):
        resolve(saved(state, tmp_path / "w.pth"), NAMED)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("key", "library"),
    [
        ("backbone.patch_embed.projection.weight", "mmpretrain"),
    ],
)
def test_the_layout_of_another_library_is_refused_by_its_name(
    prefix: str, key: str, library: str, tmp_path: Path
) -> None:
    file = saved({"state_dict": {prefix + key: torch.ones(3, 3)}, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(SourceError, match=rf"w\.pth has the keys that .*{library}.* as module:callable"):
        resolve(file, STATED)


def test_what_was_read_off_the_shapes_is_noted(theirs: Any, tmp_path: Path) -> None:
    source = resolve(saved(timm_state(theirs), tmp_path / "w.pth"), STATED)
    assert any("12 layers of width 192; 3 heads" in note for note in source.notes)
    assert source.preprocess.height == SIDE


def test_another_size_than_the_names_is_noted(theirs: Any, tmp_path: Path) -> None:
    source = resolve(saved(timm_state(theirs), tmp_path / "w.pth"), NAMED)
    assert any("positions are those of 48x48 pixels" in note for note in source.notes)
    assert source.preprocess.resize == (53, 53)  # floor(48 / 0.9)


def test_shapes_of_no_published_model_are_asked_about(theirs: Any, tmp_path: Path) -> None:
    state = {k: v for k, v in timm_state(theirs).items() if not k.startswith("blocks.11.")}
    with pytest.raises(SourceError, match=r"width 192, 11 layers.*number of heads is unknown"):
        resolve(saved(state, tmp_path / "w.pth"), STATED)


def test_positions_of_no_square_image_are_asked_about(theirs: Any, tmp_path: Path) -> None:
    state = timm_state(theirs)
    state["pos_embed"] = state["pos_embed"][:, :7]
    file = saved(state, tmp_path / "w.pth")
    with pytest.raises(SourceError, match="say with --image-size HEIGHTxWIDTH what it was trained at"):
        resolve(file, NAMED)
    config = resolve(file, dataclasses.replace(NAMED, image_size=(32, 48))).config
    assert config is not None
    assert config.image_size == (32, 48)


def test_a_pickled_module_runs_no_code_unless_allowed(theirs: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="pass --allow-pickle if you trust its author"):
        resolve(saved(theirs, tmp_path / "model.pt"), STATED)


def test_several_checkpoints_of_a_run_are_named_with_the_best(theirs: Any, tmp_path: Path) -> None:
    for step in (500, 1000):
        folder_of(theirs, tmp_path / f"checkpoint-{step}")
    with pytest.raises(SourceError, match=r"2 checkpoints \(checkpoint-500, checkpoint-1000\): .*-1000$"):
        resolve(str(tmp_path), SourceOptions())
    best = {"best_model_checkpoint": "/elsewhere/out/checkpoint-500"}
    (tmp_path / "checkpoint-1000" / "trainer_state.json").write_text(json.dumps(best))
    with pytest.raises(SourceError, match=r"such as .*checkpoint-500$"):
        resolve(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet50"}, "unknown architecture 'resnet50'"),
        ({"global_pool": "map"}, "global_pool 'map'"),
        ({"model_args": {"act_layer": "relu"}}, "model_args act_layer may change what the model computes"),
        ({"pretrained_cfg": {"input_size": [3, 48]}}, "input_size must be three integers"),
        (
            {"pretrained_cfg": {"input_size": [3, 48, 48], "crop_mode": "border", "crop_pct": 0.9}},
            "crop_mode 'border' fits the longer side and pads with the mean colour",
        ),
        (
            {"pretrained_cfg": {"input_size": [3, 48, 48], "crop_pct": 0.9, "interpolation": "random"}},
            "'random' is none of nearest",
        ),
    ],
)
def test_a_timm_folder_that_says_something_else_is_refused(
    changes: dict[str, Any], message: str, theirs: Any, tmp_path: Path
) -> None:
    folder = timm_folder(theirs, tmp_path / "f", **changes)
    with pytest.raises(ValueError, match=message):
        resolve(str(folder), SourceOptions())


def test_a_timm_folders_data_config_is_its_preprocessing(theirs: Any, tmp_path: Path) -> None:
    spec = resolve(str(timm_folder(theirs, tmp_path / "f")), SourceOptions()).preprocess
    assert (spec.height, spec.interpolation, spec.mean) == (SIDE, Interpolation.BICUBIC, HALF)
    assert set(spec.resize) == {53}


@pytest.mark.parametrize("base", ["google/vit-base-patch16-224", "/srv/models/base", None])
def test_an_adapter_that_cannot_be_merged_says_how_to(
    base: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # as where it is not installed
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(SourceError, match=r"is an adapter of .*merge_and_unload"):
        resolve(str(tmp_path), SourceOptions())


def test_an_adapter_is_merged_into_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft", reason="merging adapters needs peft, which is no dependency")
    snapshot = tmp_path / "models--someone--base" / "snapshots" / ("0" * 40)
    snapshot.parent.with_name("refs").mkdir(parents=True)
    (snapshot.parent.with_name("refs") / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=SIDE, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    snapshot.mkdir(parents=True)
    folder_of(transformers.ViTForImageClassification(config), snapshot)
    base = transformers.AutoModelForImageClassification.from_pretrained(
        snapshot, num_labels=4, ignore_mismatched_sizes=True
    )
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    adapted = peft.get_peft_model(base, lora).eval()
    for name, parameter in adapted.named_parameters():
        if "lora" in name or "modules_to_save" in name:
            nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    adapter = tmp_path / "adapter" / "adapter_config.json"
    adapter.write_text(
        json.dumps({**json.loads(adapter.read_text()), "base_model_name_or_path": "someone/base"})
    )
    found = logits_of(str(tmp_path / "adapter"), SourceOptions())
    torch.testing.assert_close(found, adapted(images()).logits, atol=TOLERANCE, rtol=0)


def test_a_compressed_archive_is_refused_unread(tmp_path: Path) -> None:
    packed, file = io.BytesIO(), tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(10**6)}, packed)
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    with pytest.raises(SourceError, match="is a compressed archive: unpack it"):
        read_state_dict(file)


def test_one_number_that_stands_for_more_than_memory_holds_is_refused(theirs: Any, tmp_path: Path) -> None:
    state = {**timm_state(theirs), "head.weight": torch.zeros(1).expand(2**20, 2**20)}
    with pytest.raises(SourceError, match="claims more numbers than it has bytes"):
        read_state_dict(Path(saved(state, tmp_path / "w.pth")))


def test_an_archive_of_the_older_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.tar").write_bytes(b"name" + bytes(1020))
    with pytest.raises(SourceError, match="fetch it again"):
        read_state_dict(tmp_path / "w.tar")
