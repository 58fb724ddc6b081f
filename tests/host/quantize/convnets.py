"""Small networks that are no ViT, or only partly one, with random weights and statistics."""

import functools
from collections.abc import Callable

import onnx
import torch
from torch import Tensor, nn

from tests.host.vit_forms import DIM as WIDTH
from tests.host.vit_forms import Block, Export, PackedAttention, randomised, to_onnx

IMAGE, CLASSES = 32, 10


def conv(inside: int, outside: int, stride: int = 1, *, kernel: int = 3, group: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=group, bias=False),
        nn.BatchNorm2d(outside),
    )


class Residual(nn.Module):
    """As ResNet has it."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(inside, outside, stride), conv(outside, outside)
        self.short = conv(inside, outside, stride, kernel=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.second(self.first(x).relu()) + self.short(x)).relu()
        return y


class Inverted(nn.Module):
    """As MobileNetV2 has it: wide and depthwise inside."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        wide = 4 * width
        self.layers = nn.Sequential(
            conv(width, wide, kernel=1), nn.ReLU6(), conv(wide, wide, stride, group=wide), nn.ReLU6(),
            conv(wide, width, kernel=1),
        )  # fmt: skip
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.stride == 1 else y


class Hybrid(nn.Module):
    """Convolutions in front of two transformer blocks on what they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 2), nn.ReLU(), conv(16, WIDTH, 2), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(PackedAttention(), nn.GELU()) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        logits: Tensor = self.head(self.norm(tokens).mean(dim=1))
        return logits


def resnet() -> nn.Module:
    return nn.Sequential(
        conv(3, 16), nn.ReLU(), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 48, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, CLASSES),
    )  # fmt: skip


def mobilenet() -> nn.Module:
    return nn.Sequential(
        conv(3, 16, 2), nn.ReLU6(), Inverted(16, 1), Inverted(16, 2), Inverted(16, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {"resnet": resnet, "mobilenet": mobilenet, "hybrid": Hybrid}


@functools.cache
def network_onnx(kind: str) -> onnx.ModelProto:
    """Its export, with statistics of images that look like those of the tests; leave it unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(NETWORKS[kind]())
        model.train()
        with torch.no_grad():  # running statistics that belong to the weights
            for _ in range(30):
                model(torch.randn(16, 3, IMAGE, IMAGE))
        model.eval()
    return to_onnx(model, Export(False, 17, None), (3, IMAGE, IMAGE))
