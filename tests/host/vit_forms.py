"""Small vision transformers in every form that users bring, with random weights, and their ONNX exports."""

import dataclasses
import functools
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from torch import Tensor, nn

from vit_edge.arrays import Array
from vit_edge.host.rewrite.description import Description
from vit_edge.host.vit import Activation, Distillation, Pooling, VisionTransformer, VitConfig

DIM, HEADS, DEPTH, MLP, CLASSES, PATCH, IMAGE = 32, 2, 2, 64, 5, 4, 16
PATCHES = (IMAGE // PATCH) ** 2
SIZES: dict[str, Any] = {  # in transformers' words
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": MLP,
    "patch_size": PATCH,
    "image_size": IMAGE,
}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter moved from its start: biases, gammas, LayerScale and tokens count for something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


class Logits(nn.Module):
    """A Hugging Face classifier as a function from pixels to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


class PackedAttention(nn.Module):
    """As timm writes it: one projection, reshape, permute, unbind, and torch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        packed = self.qkv(x).reshape(batch, tokens, 3, HEADS, dim // HEADS).permute(2, 0, 3, 1, 4)
        mixed = self.mix(*packed.unbind(0)).transpose(1, 2).reshape(batch, tokens, dim)
        joined: Tensor = self.proj(mixed)
        return joined

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of (batch, heads, tokens, head_dim) each."""
        return nn.functional.scaled_dot_product_attention(q, k, v)


class SplitAttention(PackedAttention):
    """One projection, cut by `split`, heads apart afterwards, attention written out."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        shape = (batch, tokens, HEADS, dim // HEADS)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in self.qkv(x).split(dim, dim=-1))
        weights = ((q * (dim // HEADS) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        joined: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))
        return joined


class EinsumAttention(PackedAttention):
    """The heads stay behind the tokens, and both products are written as sums over labels."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        packed = self.qkv(x).reshape(batch, tokens, 3, HEADS, dim // HEADS)
        q, k, v = packed.unbind(2)
        weights = (torch.einsum("bihd,bjhd->bhij", q, k) * (dim // HEADS) ** -0.5).softmax(dim=-1)
        mixed = torch.einsum("bhij,bjhd->bihd", weights, v).reshape(batch, tokens, dim)
        joined: Tensor = self.proj(mixed)
        return joined


class TorchAttention(nn.Module):
    """As torchvision writes it: nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return mixed


class Block(nn.Module):
    """A pre-norm encoder layer."""

    def __init__(self, attention: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(DIM, MLP), activation, nn.Linear(MLP, DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class PlainVit(nn.Module):
    """A ViT of given blocks, with a class token, or without one and pooled by the mean."""

    def __init__(self, *blocks: nn.Module, class_token: bool = True) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, DIM)) if class_token else None
        self.positions = nn.Parameter(torch.zeros(1, PATCHES + int(class_token), DIM))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.positions))
        logits: Tensor = self.head(x.mean(dim=1) if self.token is None else x[:, 0])
        return logits


class TorchvisionEmbedding(PlainVit):
    """The same, embedded as torchvision does it: reshaped with the batch size spelled out."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        assert self.token is not None
        batch = pixel_values.shape[0]
        x = self.embed(pixel_values).reshape(batch, DIM, PATCHES).permute(0, 2, 1)
        x = torch.cat([self.token.expand(batch, -1, -1), x], dim=1)
        logits: Tensor = self.head(self.norm(self.blocks(x + self.positions))[:, 0])
        return logits


def plain(attention: type[nn.Module], activation: Callable[[], nn.Module] = nn.GELU) -> nn.Module:
    return PlainVit(*(Block(attention(), activation()) for _ in range(DEPTH)))


class WrittenOutNorm(nn.Module):
    """Layer normalization by the reciprocal of a square root, as torch decomposes its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(DIM)), nn.Parameter(torch.zeros(DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        inverse = torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5)
        return x * inverse * self.weight + self.bias


def _written_out_norms() -> nn.Module:
    model = plain(PackedAttention)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, WrittenOutNorm())
    return model


def _torchvision() -> nn.Module:
    return TorchvisionEmbedding(*(Block(TorchAttention(), nn.GELU()) for _ in range(DEPTH)))


def _mean_pooled() -> nn.Module:
    blocks = (Block(SplitAttention(), nn.ReLU()) for _ in range(DEPTH))
    return PlainVit(*blocks, class_token=False)


def own(**changes: Any) -> nn.Module:
    sizes: dict[str, Any] = {
        "image_size": (IMAGE, IMAGE),
        "patch_size": (PATCH, PATCH),
        "dim": DIM,
        "depth": DEPTH,
        "heads": HEADS,
        "mlp_dim": MLP,
        "num_classes": CLASSES,
    }
    return VisionTransformer(VitConfig(**{**sizes, **changes}))


def hugging_face(name: str, attention: str = "sdpa", head: str = "", **changes: Any) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(
        num_labels=CLASSES, attn_implementation=attention, **{**SIZES, **changes}
    )
    return Logits(getattr(transformers, f"{name}ForImageClassification{head}")(config))


def described(**changes: Any) -> Description:
    """A ViT with a class token alone, but for the changes."""
    usual = Description(
        depth=DEPTH,
        stages=(DEPTH,),
        width=DIM,
        heads=HEADS,
        mlp_width=MLP,
        activation="gelu",
        tokens=PATCHES + 1,
        prefix_tokens=1,
        last_block_tokens=1,
        pooling="tokens 0..1",
        classes=CLASSES,
        image=(IMAGE, IMAGE),
        patch=(PATCH, PATCH),
        channels=3,
    )
    return dataclasses.replace(usual, **changes)


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to write a ViT, and what its canonical form must be."""

    build: Callable[[], nn.Module]
    expected: Description


_WIDE = {"image_size": (8, 24), "patch_size": (4, 8)}
PATCHES_ONLY = {"tokens": PATCHES, "prefix_tokens": 0, "last_block_tokens": PATCHES, "pooling": "mean"}
DINO: dict[str, Any] = {"image_size": 24, "mlp_ratio": MLP // DIM}

FORMS: dict[str, Form] = {
    "own": Form(own, described()),
    "own-wide": Form(lambda: own(**_WIDE, qkv_bias=False), described(tokens=7, image=(8, 24), patch=(4, 8))),
    "own-distilled": Form(
        lambda: own(distillation=Distillation.HEAD),
        described(
            tokens=PATCHES + 2, prefix_tokens=2, last_block_tokens=2, pooling="tokens 0..1 and tokens 1..2"
        ),
    ),
    "own-registers-mean": Form(
        lambda: own(
            register_tokens=3, pooling=Pooling.MEAN, norm_after_pool=True, activation=Activation.GELU_TANH
        ),
        described(
            activation="gelu_tanh",
            tokens=PATCHES + 4,
            prefix_tokens=4,
            last_block_tokens=PATCHES + 4,
            pooling="mean and tokens 4..20",
        ),
    ),
    "vit-eager": Form(lambda: hugging_face("ViT", "eager"), described()),
    "vit-sdpa": Form(lambda: hugging_face("ViT"), described()),
    "vit-tanh": Form(lambda: hugging_face("ViT", hidden_act="gelu_new"), described(activation="gelu_tanh")),
    "deit": Form(lambda: hugging_face("DeiT"), described(tokens=PATCHES + 2, prefix_tokens=2)),
    "deit-distilled": Form(
        lambda: hugging_face("DeiT", head="WithTeacher"),
        described(
            tokens=PATCHES + 2, prefix_tokens=2, last_block_tokens=2, pooling="tokens 0..1 and tokens 1..2"
        ),
    ),
    "dinov2": Form(
        lambda: hugging_face("Dinov2", **DINO),
        described(last_block_tokens=PATCHES + 1, pooling="mean and tokens 0..1 and tokens 1..17"),
    ),
    "dinov2-registers": Form(
        lambda: hugging_face("Dinov2WithRegisters", **DINO, num_register_tokens=3),
        described(
            tokens=PATCHES + 4,
            prefix_tokens=4,
            last_block_tokens=PATCHES + 4,
            pooling="mean and tokens 0..1 and tokens 4..20",
        ),
    ),
    "timm-packed": Form(lambda: plain(PackedAttention), described()),
    "norm-by-rsqrt": Form(_written_out_norms, described()),
    "timm-split": Form(lambda: plain(SplitAttention), described()),
    "timm-tanh": Form(
        lambda: plain(PackedAttention, functools.partial(nn.GELU, approximate="tanh")),
        described(activation="gelu_tanh"),
    ),
    "einsum": Form(lambda: plain(EinsumAttention), described()),
    "torchvision": Form(_torchvision, described()),
    "mean-relu": Form(_mean_pooled, described(activation="relu", **PATCHES_ONLY)),
}


@dataclasses.dataclass(frozen=True)
class Export:
    """How a model came to be an ONNX file."""

    dynamo: bool
    opset: int
    batch: int | None  # None: dynamic

    def __str__(self) -> str:
        batch = "any-batch" if self.batch is None else f"batch-{self.batch}"
        return f"{'dynamo' if self.dynamo else 'torchscript'}-{self.opset}-{batch}"


def to_onnx(
    model: nn.Module,
    how: Export,
    image: tuple[int, ...] = (3, IMAGE, IMAGE),
    outputs: tuple[str, ...] = ("logits",),
) -> onnx.ModelProto:
    """The model as torch writes it; the exporters' warnings are about themselves."""
    example = torch.zeros(how.batch or 2, *image)
    names: dict[str, Any] = {"input_names": ["pixel_values"], "output_names": list(outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how.dynamo:
            dynamic = None if how.batch else ({0: torch.export.Dim("batch")},)
            made = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=how.opset,
                dynamic_shapes=dynamic,
                verbose=False,
                **names,
            )
            assert made is not None
            proto: onnx.ModelProto = made.model_proto
            return proto
        axes = None if how.batch else {name: {0: "batch"} for name in ("pixel_values", *outputs)}
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "model.onnx"))
            torch.onnx.export(
                model, (example,), file, dynamo=False, opset_version=how.opset, dynamic_axes=axes, **names
            )
            return onnx.load(file)


def exported(form: str, how: Export) -> onnx.ModelProto:
    """One form's export; made once for all tests, so leave it unchanged."""
    return export_of(FORMS[form], how)


@functools.cache
def export_of(kind: Form, how: Export) -> onnx.ModelProto:
    """The same of any form."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(kind.build())
    return to_onnx(model, how, (kind.expected.channels, *kind.expected.image))


def run(model: onnx.ModelProto, images: Array) -> Array:
    """Logits by onnxruntime."""
    return outputs_of(model, images)[0]


def outputs_of(model: onnx.ModelProto, images: Array, names: Sequence[str] | None = None) -> list[Array]:
    """All or some outputs by onnxruntime, in chunks of the model's batch size where that is fixed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only: exporters leave initializers that nothing reads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    batch = given.shape[0] if isinstance(given.shape[0], int) else len(images)
    chunks = [images[i : i + batch] for i in range(0, len(images), batch)]
    rows = [session.run(names, {given.name: chunk}) for chunk in chunks]
    return [np.concatenate(each) for each in zip(*rows, strict=True)]
