"""Small untrained classifiers of transformers' families, as folders with the family's own image processor."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

SIDE = 32
LABELS = {0: "cat", 1: "dog", 2: "fox"}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
_MLP = {**_SIZES, "intermediate_size": 48}
_NAMES = {"id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}
_SWIN = {"image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
_TEXT = {**_MLP, "vocab_size": 64, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
_TOWERS = {"vision_config": _MLP, "text_config": _TEXT}

CONFIGS: dict[str, dict[str, Any]] = {
    "beit": {**_MLP, "use_relative_position_bias": True},
    "clip": {**_TOWERS, "projection_dim": 16},
    "data2vec-vision": {**_MLP, "use_shared_relative_position_bias": True},
    "dinov2": {**_SIZES, "mlp_ratio": 2, "layerscale_value": 0.5},
    "dinov2_with_registers": {**_SIZES, "mlp_ratio": 2, "num_register_tokens": 2},
    "hiera": {
        "image_size": [SIDE, SIDE],
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "query_stride": [2, 2],
        "masked_unit_size": [4, 4],
        "num_query_pool": 1,
    },
    "ijepa": _MLP,
    "metaclip_2": {**_TOWERS, "projection_dim": 16},
    "siglip": _TOWERS,
    "swin": {**_SWIN, "window_size": 4},
    "swinv2": {**_SWIN, "window_size": 4},
    "vit_msn": _MLP,
}
_CROPPED = {"size": {"shortest_edge": SIDE + 3}, "crop_size": {"height": SIDE, "width": SIDE}}
_WHOLE = {"size": {"height": SIDE, "width": SIDE}}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {  # transformers' own for the family; ViT for others
    "beit": ("BeitImageProcessorPil", _WHOLE),
    "clip": ("CLIPImageProcessorPil", _CROPPED),
    "data2vec-vision": ("BeitImageProcessorPil", _WHOLE),
    "dinov2": ("BitImageProcessorPil", _CROPPED),
    "dinov2_with_registers": ("BitImageProcessorPil", _CROPPED),
    "metaclip_2": ("CLIPImageProcessorPil", _CROPPED),
    "siglip": ("SiglipImageProcessorPil", _WHOLE),
}


# By transformers' class of an image tower: its model type, its sizes, and whose processor it has.
IMAGE_TOWERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Aimv2Model": ("aimv2", CONFIGS["clip"], "clip"),
    "Aimv2VisionModel": ("aimv2_vision_model", _MLP, "clip"),
    "BeitModel": ("beit", CONFIGS["beit"], "beit"),
    "CLIPModel": ("clip", CONFIGS["clip"], "clip"),
    "CLIPVisionModel": ("clip_vision_model", _MLP, "clip"),
    "CLIPVisionModelWithProjection": ("clip_vision_model", {**_MLP, "projection_dim": 16}, "clip"),
    "DINOv3ViTModel": ("dinov3_vit", {**_MLP, "num_register_tokens": 2}, ""),
    "DeiTModel": ("deit", _MLP, ""),
    "Dinov2Model": ("dinov2", CONFIGS["dinov2"], "dinov2"),
    "Dinov2WithRegistersModel": ("dinov2_with_registers", CONFIGS["dinov2_with_registers"], "dinov2"),
    "MetaClip2Model": ("metaclip_2", CONFIGS["metaclip_2"], "clip"),
    "MetaClip2VisionModelWithProjection": (
        "metaclip_2_vision_model",
        {**_MLP, "projection_dim": 16},
        "clip",
    ),
    "SiglipModel": ("siglip", CONFIGS["siglip"], "siglip"),
    "SiglipVisionModel": ("siglip_vision_model", _MLP, "siglip"),
    "SwinModel": ("swin", CONFIGS["swin"], ""),
    "ViTMSNModel": ("vit_msn", _MLP, ""),
    "ViTModel": ("vit", _MLP, ""),
}


def image_tower_folder(folder: Path, kind: str, **changes: Any) -> Any:
    """Save a model without a classifier; returns transformers' model.

    Args:
        folder: becomes what `save_pretrained` writes.
        kind: a key of IMAGE_TOWERS.
        changes: of its config.
    """
    torch.manual_seed(0)
    model_type, sizes, processor = IMAGE_TOWERS[kind]
    config = transformers.AutoConfig.for_model(model_type, **{**sizes, "initializer_range": 0.2, **changes})
    model = getattr(transformers, kind)(config).eval()
    _spread(model)
    model.save_pretrained(folder)
    name, geometry = PROCESSORS.get(processor, ("ViTImageProcessorPil", _WHOLE))
    getattr(transformers, name)(**geometry).save_pretrained(folder)
    return model


def family_folder(folder: Path, model_type: str, **changes: Any) -> Any:
    """Save a classifier; returns transformers' model.

    Args:
        folder: becomes what `save_pretrained` writes.
        model_type: a key of CONFIGS.
        changes: of its config.
    """
    torch.manual_seed(0)
    sizes = {**CONFIGS[model_type], "initializer_range": 0.2, **changes}
    config = transformers.AutoConfig.for_model(model_type, **sizes, **_NAMES)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    _spread(model)
    model.save_pretrained(folder)
    name, geometry = PROCESSORS.get(model_type, ("ViTImageProcessorPil", _WHOLE))
    getattr(transformers, name)(**geometry).save_pretrained(folder)
    return model


def tower_folder(folder: Path, model_type: str, **changes: Any) -> Any:
    """Save a model of an image and a text tower with its tokenizer; returns transformers' model."""
    torch.manual_seed(0)
    sizes = {**CONFIGS[model_type], "initializer_range": 0.2, **changes}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    model = transformers.AutoModelForZeroShotImageClassification.from_config(config).eval()
    _spread(model)
    model.save_pretrained(folder)
    name, geometry = PROCESSORS[model_type]
    getattr(transformers, name)(**geometry).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "a", "photo", "of", "no", "cat", "dog", "fox", "owl"]
    tokenizer = tokenizers.Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[1]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    special = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), words, strict=False))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return model


def _spread(model: Any) -> None:
    """No weight stays at the zero or one that it starts from, where a mistake would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
