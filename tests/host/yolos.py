"""A small untrained YOLOS, by transformers, and its ONNX export."""

import functools
from typing import Any

import onnx
import torch
import transformers
from torch import Tensor, nn

from tests.host.vit_forms import Export, randomised, to_onnx

SIDE, CLASSES, BOXES = 32, 3, 6
OUTPUTS = ("logits", "pred_boxes")


class _Outputs(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        made: Any = self.model(pixel_values)
        return made.logits, made.pred_boxes


@functools.cache
def yolos() -> Any:
    """transformers' model; leave it unchanged."""
    config = transformers.YolosConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=[SIDE, SIDE],
        patch_size=8,
        num_detection_tokens=BOXES,
        num_labels=CLASSES,
        use_mid_position_embeddings=False,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return randomised(transformers.YolosForObjectDetection(config).eval(), 3)


@functools.cache
def yolos_onnx() -> onnx.ModelProto:
    """Its export; made once for all tests, so leave it unchanged."""
    return to_onnx(_Outputs(yolos()).eval(), Export(False, 17, None), (3, SIDE, SIDE), outputs=OUTPUTS)
