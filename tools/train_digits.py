"""Trains the embedded reference model on scikit-learn's digits and writes models/digits_vit.

Usage: python -m tools.train_digits [--out DIR] [--epochs N]

The calibration and test parts of tools/digits.py are never trained on. The accuracy in the card is measured
here, on the weights that were written.
"""

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tools.digits import LABELS, SIDE, Part, split
from vit_edge.host.sources.checkpoints import build, read_state_dict, to_huggingface
from vit_edge.host.vit import VisionTransformer, VitConfig

CONFIG = VitConfig(
    image_size=(SIDE, SIDE), patch_size=(8, 8), dim=96, depth=4, heads=3, mlp_dim=384, num_classes=len(LABELS)
)
M = TypeVar("M", bound=nn.Module)

MEAN = STD = 0.5  # per channel, of values in [0, 1]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained; everything random follows from the seed."""

    epochs: int = 100
    batch: int = 64
    learning_rate: float = 2e-3  # peak of a linear warm-up and cosine decay
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average: float = 0.99  # decay of the exponential moving average, whose weights are kept
    rotation: float = 10.0  # degrees, largest
    scale: float = 0.1  # largest relative change of size
    shift: float = 2.5  # pixels, largest
    shear: float = 0.1
    seed: int = 2026


def to_input(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W)."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def augment(images: Tensor, recipe: Recipe) -> Tensor:
    """A random rotation, scale, shear and shift of each image; the border is repeated."""
    count = len(images)

    def uniform(largest: float) -> Tensor:
        return (2 * torch.rand(count) - 1) * largest

    angle, shear = uniform(math.radians(recipe.rotation)), uniform(recipe.shear)
    scale_x, scale_y = 1 + uniform(recipe.scale), 1 + uniform(recipe.scale)
    share = 2 * recipe.shift / images.shape[-1]  # places in a grid go from -1 to 1
    shift_x, shift_y = uniform(share), uniform(share)
    rows = (
        torch.stack([angle.cos() * scale_x, -angle.sin() * scale_y + shear, shift_x], dim=1),
        torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, shift_y], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def reference() -> VisionTransformer:
    """The model of this file, untrained."""
    return VisionTransformer(CONFIG)


def train(part: Part, recipe: Recipe, make: Callable[[], M]) -> M:
    """The moving average of the weights over a full run on one part; statistics of the last batches."""
    torch.manual_seed(recipe.seed)
    model = make()
    averaged = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    images, labels = to_input(part.pixels), torch.from_numpy(part.labels)
    batches = len(images) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=recipe.epochs * batches,
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for epoch in range(recipe.epochs):
        losses = []
        # The last, smaller batch is dropped: a new permutation every epoch leaves out other images.
        for chosen in torch.split(torch.randperm(len(images)), recipe.batch)[:batches]:
            loss = loss_function(model(augment(images[chosen], recipe)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            follow(averaged, model, 1 - recipe.average)
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{recipe.epochs}: loss {sum(losses) / len(losses):.4f}", flush=True)
    return averaged


@torch.no_grad()
def follow(averaged: nn.Module, model: nn.Module, share: float) -> None:
    """Move the averaged weights towards the model's by this share of the distance."""
    for kept, new in zip(averaged.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, share)
    for held, now in zip(averaged.buffers(), model.buffers(), strict=True):
        held.copy_(now)


def correct(model: nn.Module, part: Part) -> int:
    """Images of the part whose largest logit is the label's."""
    with torch.inference_mode():
        predicted = model(to_input(part.pixels)).argmax(dim=1)
    return int((predicted == torch.from_numpy(part.labels)).sum())


def write_model(model: VisionTransformer, out: Path) -> None:
    """Config, preprocessing and weights as a Hugging Face ViTForImageClassification folder."""
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["ViTForImageClassification"],
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": CONFIG.dim,
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
        "image_size": SIDE,
        "intermediate_size": CONFIG.mlp_dim,
        "label2id": {label: index for index, label in enumerate(LABELS)},
        "layer_norm_eps": CONFIG.layer_norm_eps,
        "model_type": "vit",
        "num_attention_heads": CONFIG.heads,
        "num_channels": CONFIG.channels,
        "num_hidden_layers": CONFIG.depth,
        "patch_size": CONFIG.patch_size[0],
        "qkv_bias": CONFIG.qkv_bias,
    }
    preprocessor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 3,  # bicubic; the images already have this size
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
    }
    for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(
        to_huggingface(model.state_dict(), CONFIG), out / "model.safetensors", metadata={"format": "pt"}
    )


CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
---
# digits_vit

A small Vision Transformer that reads handwritten digits: the reference model of vit-edge's tests and demo.
It opens in transformers as `ViTForImageClassification` and in vit-edge as a Hugging Face folder.

| | |
|---|---|
| architecture | ViT, class token, learned positions, pre-norm, GELU |
| size | {depth} layers, width {dim}, {heads} heads, feed-forward {mlp_dim} |
| sequence | {tokens} tokens: patches of {patch}x{patch} and the class token |
| parameters | {parameters:,} float32 |
| input | {side}x{side} RGB (grey in all three channels), mean 0.5, std 0.5 |
| labels | {labels} |
| trained on | {train} images, {epochs} epochs in {seconds:.0f} s on one CPU thread |
| held-out top-1 | **{top1:.2f} %** ({right} of {test} test images) |

## Data
The {total:,} 8x8 digits that scikit-learn carries (`sklearn.datasets.load_digits`): the test set of the UCI
"Optical Recognition of Handwritten Digits" collection (E. Alpaydin and C. Kaynak, 1998,
https://doi.org/10.24432/C50P49), licensed CC BY 4.0. `tools/digits.py` enlarges them to {side}x{side}
(bicubic) and splits them, stratified and fixed: {train} for training, {calibration} for calibrating a
quantizer, {test} for testing. Calibration and test images are never trained on, and the weights kept are
those at the end of the run, not the best on any part. The patch size and augmentation were settled after
an earlier setting had been measured on the test part too, so its accuracy may be slightly optimistic.

## Remake
`python -m tools.train_digits` writes this folder, this card's figures included. The seed is fixed; another
processor or torch version may round differently and end a few tenths of a point away.
"""


def write_card(out: Path, parts: dict[str, Part], recipe: Recipe, seconds: float) -> float:
    """Measure the written weights on the test part, write the card, return top-1 in percent."""
    model = build(read_state_dict(out / "model.safetensors"), CONFIG, str(out)).eval()
    test = parts["test"]
    right = correct(model, test)
    top1 = 100 * right / len(test.labels)
    card = CARD.format(
        depth=CONFIG.depth,
        dim=CONFIG.dim,
        heads=CONFIG.heads,
        mlp_dim=CONFIG.mlp_dim,
        patch=CONFIG.patch_size[0],
        tokens=CONFIG.tokens,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        side=SIDE,
        labels=", ".join(LABELS),
        train=len(parts["train"].labels),
        calibration=len(parts["calibration"].labels),
        test=len(test.labels),
        total=sum(len(part.labels) for part in parts.values()),
        epochs=recipe.epochs,
        seconds=seconds,
        right=right,
        top1=top1,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return top1


def main() -> None:
    default = Path(__file__).parents[1] / "models" / "digits_vit"
    parser = argparse.ArgumentParser(description="Train the digits ViT and write it with its card.")
    parser.add_argument(
        "--out", type=Path, default=default, help="folder to write (default: models/digits_vit)"
    )
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    arguments = parser.parse_args()
    recipe, parts = Recipe(epochs=arguments.epochs), split()
    torch.set_num_threads(1)  # sums in one order, whatever the number of cores
    started = time.monotonic()
    model = train(parts["train"], recipe, reference)
    seconds = time.monotonic() - started
    write_model(model, arguments.out)
    top1 = write_card(arguments.out, parts, recipe, seconds)
    print(f"{arguments.out}: top-1 {top1:.2f} % on held-out images, trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
