"""A small untrained ViT of transformers, as a folder."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {  # in transformers' words
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
LABELS = ("cat", "dog", "fox", "owl")
PROCESSOR: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 35},  # three pixels more than the crop, which the rules halve differently
    "crop_size": 32,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def save(folder: Path, seed: int = 0, labels: tuple[str, ...] = LABELS, **changes: Any) -> Path:
    """A Hugging Face folder with an untrained ViT that tells images apart."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        **SIZES,
        id2label=dict(enumerate(labels)),
        label2id={name: index for index, name in enumerate(labels)},
        initializer_range=0.5,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **changes}))
    return folder
