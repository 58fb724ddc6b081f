"""What is no canonical ViT is refused by what was found and where, or lowered for one image if asked."""

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, parser
from torch import Tensor, nn

from tests.host.vit_forms import (
    DIM,
    HEADS,
    IMAGE,
    PATCH,
    PATCHES,
    Block,
    Export,
    PackedAttention,
    PlainVit,
    randomised,
    run,
    to_onnx,
)
from vit_edge.errors import ContractError, ModelError
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.spec import InputForm, ModelForm

ONE_IMAGE = Export(False, 17, 1)
NAME = "some.onnx"


class NormedQueriesAndKeys(PackedAttention):
    """By their length, as Swin V2 and InternViT have it in forms of their own."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (x / x.square().mean(dim=-1, keepdim=True).sqrt() for x in (q, k))
        return super().mix(q, k, v)


class CausalAttention(PackedAttention):
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.triu(torch.full((PATCHES + 1, PATCHES + 1), -1e9), 1))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


class NormedCausalAttention(CausalAttention):
    """Its heads are recognised, its scores are not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM // HEADS)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mix(self.norm(q), self.norm(k), v)


class TurnedCausalAttention(CausalAttention):
    """The same of queries and keys that are turned."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mix(self.turned(q), self.turned(k), v)

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(PATCHES + 1)[:, None] * torch.linspace(1, 0.1, DIM // HEADS // 2)
        cos, sin = (torch.cat([table, table], dim=-1) for table in (angles.cos(), angles.sin()))
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-second, first], dim=-1) * sin


class PostNormBlock(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.mlp(x))
        return y


class BlockWithoutResidual(Block):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(self.norm2(x + self.attention(self.norm1(x))))
        return y


def usual() -> nn.Module:
    return Block(PackedAttention(), nn.GELU())


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * IMAGE * IMAGE, 8), nn.ReLU(), nn.Linear(8, 5))


def overlapping_patches() -> nn.Module:
    model = PlainVit(usual())
    model.embed = nn.Conv2d(3, DIM, PATCH + 1, PATCH, padding=2)
    return model


class Features(PlainVit):
    """The class token behind the last norm."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.embed(pixel_values).flatten(2).transpose(1, 2) + self.positions
        normed: Tensor = self.norm(self.blocks(patches))
        return normed[:, 0]


ODD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a CNN": (
        cnn,
        "embedding: expected one patch embedding, found 0 (the stride (2, 2) is not the kernel (3, 3))",
    ),
    "an MLP": (mlp, "embedding: expected one patch embedding, found 0"),
    "patches that overlap": (overlapping_patches, "the stride (4, 4) is not the kernel (5, 5)"),
    "normalised queries and keys": (
        lambda: PlainVit(usual(), Block(NormedQueriesAndKeys(), nn.GELU())),
        "block 1: found Softmax",
    ),
    "their cause": (
        lambda: PlainVit(usual(), Block(NormedQueriesAndKeys(), nn.GELU())),
        "the queries come from Div",
    ),
    "causal attention": (
        lambda: PlainVit(usual(), usual(), Block(CausalAttention(), nn.GELU())),
        "block 2: found Softmax",
    ),
    "its mask": (
        lambda: PlainVit(Block(CausalAttention(), nn.GELU())),
        "what is added to the scores reaches -1e+09: a mask",
    ),
    "post-norm from the start": (
        lambda: PlainVit(PostNormBlock(PackedAttention(), nn.GELU())),
        "block 0: the sum behind the attention is normalised itself (post-norm)",
    ),
    "post-norm later": (
        lambda: PlainVit(usual(), PostNormBlock(PackedAttention(), nn.GELU())),
        "block 1: the sum behind the attention is normalised itself (post-norm)",
    ),
    "a missing residual": (
        lambda: PlainVit(usual(), BlockWithoutResidual(PackedAttention(), nn.GELU())),
        "block 1: expected the residual Add, found LayerNormalization",
    ),
    "an unknown activation": (
        lambda: PlainVit(usual(), Block(PackedAttention(), nn.Softplus())),
        "block 1: expected the activation of the MLP, found Softplus",
    ),
    "blocks that differ": (
        lambda: PlainVit(usual(), Block(PackedAttention(), nn.ReLU())),
        "blocks: they differ: heads 2, MLP widths 64, activations gelu and relu",
    ),
    "features without a classifier": (
        lambda: Features(usual(), class_token=False),
        "head: expected a linear classifier behind the last block",
    ),
    "no block at all": (PlainVit, "found no attention"),
    "probabilities instead of logits": (
        lambda: nn.Sequential(PlainVit(usual()), nn.Softmax(dim=-1)),
        "belongs to no block",
    ),
}


def _exported(build: Callable[[], nn.Module]) -> onnx.ModelProto:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return to_onnx(randomised(build()), ONE_IMAGE)


@pytest.mark.parametrize(("build", "found"), ODD.values(), ids=ODD.keys())
def test_a_model_that_is_no_canonical_vit_is_refused_by_what_was_found(
    build: Callable[[], nn.Module], found: str
) -> None:
    with pytest.raises(
        ContractError, match=f"^{NAME} is not a canonical ViT: .*{re.escape(found)}"
    ) as refusal:
        canonicalise(_exported(build), NAME)
    assert "\n" not in str(refusal.value)


def _partly_known(attention: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: PlainVit(usual(), Block(attention(), nn.GELU()))


@pytest.mark.parametrize(
    "build",
    [
        cnn,
        mlp,
        *(ODD[key][0] for key in ("causal attention", "post-norm later")),
        _partly_known(NormedCausalAttention),
        _partly_known(TurnedCausalAttention),
    ],
)
def test_an_uncanonical_model_is_still_lowered_for_one_image(build: Callable[[], nn.Module]) -> None:
    given = _exported(build)
    canonical = canonicalise(given, NAME, allow_uncanonical=True)
    assert canonical.description is None
    assert canonical.refusal is not None
    images = np.random.default_rng(1).normal(size=(3, 3, IMAGE, IMAGE)).astype(np.float32)
    lowered = lower(canonical, LowerSettings(ModelForm(1)))
    assert {node.domain for node in lowered.graph.node} == {""}
    assert np.abs(run(lowered, images) - run(given, images)).max() < 1e-4  # logits of order one, float32


def test_a_canonical_model_needs_no_permission() -> None:
    canonical = canonicalise(_exported(lambda: PlainVit(usual())), NAME, allow_uncanonical=True)
    assert canonical.refusal is None
    assert canonical.description is not None


NORMAL = Normalisation(np.zeros(3, np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("form", InputForm)
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_an_uncanonical_model_is_lowered_in_every_form(form: InputForm, batch: int | None) -> None:
    model = _exported(cnn)
    canonical = canonicalise(model, NAME, allow_uncanonical=True)
    lowered = lower(canonical, LowerSettings(ModelForm(batch, form), NORMAL))
    pixels = np.random.default_rng(0).integers(0, 256, (4, IMAGE, IMAGE, 3), np.uint8)
    given = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    taken = pixels if form is InputForm.PIXELS else given
    np.testing.assert_allclose(run(lowered, taken), run(model, given), atol=1e-5, rtol=0)


def test_pixels_need_the_normalisation() -> None:
    canonical = canonicalise(_exported(lambda: PlainVit(usual())), NAME)
    with pytest.raises(ModelError, match="needs the mean and std of the preprocessing"):
        lower(canonical, LowerSettings(ModelForm(input=InputForm.PIXELS)))


def _graph(text: str, header: str = '<ir_version: 8, opset_import: ["": 17]>') -> onnx.ModelProto:
    return parser.parse_model(f"{header} g {text}")


SUM = "{ axes = Constant<value_ints=[2, 3]>()\n y = ReduceSum<keepdims=0>(x, axes) }"
MALFORMED: dict[str, tuple[onnx.ModelProto, str]] = {
    "nothing": (onnx.ModelProto(), "has no graph"),
    "a dynamic height and width": (
        _graph(f"(float[N,3,H,W] x) => (float[N,3] y) {SUM}"),
        r"the image size .* is not fixed; export it for one size",
    ),
    "two inputs": (
        _graph("(float[1,3,8,8] x, float[1,3,8,8] z) => (float[1,3,8,8] y) { y = Add(x, z) }"),
        "has 2 inputs; a classifier has one, the image",
    ),
    "integer images": (
        _graph("(uint8[1,3,8,8] x) => (uint8[1,3,8,8] y) { y = Identity(x) }"),
        r"input x is not a float32 image \(N, C, H, W\)",
    ),
    "a flat input": (
        _graph("(float[1,192] x) => (float[1,192] y) { y = Relu(x) }"),
        r"input x is not a float32 image \(N, C, H, W\)",
    ),
    "an operator of another domain": (
        _graph(
            "(float[1,3,8,8] x) => (float[1,3,8,8] y) { y = com.acme.Magic(x) }",
            '<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>',
        ),
        "uses operators of the domain com.acme; export it with standard operators only",
    ),
    "a shape that depends on the data": (
        _graph("(float[1,3,8,8] x) => (int64[4,K] y) { y = NonZero(x) }"),
        "the shape behind NonZero depends on the data",
    ),
    "one image picked from the batch": (
        _graph("(float[2,3,4,4] x) => (float[3,4,4] y) <int64 i = {0}> { y = Gather<axis=0>(x, i) }"),
        "the fixed batch of 2 cannot be followed through Gather",
    ),
    "a batch that is mixed with the channels": (
        _graph(
            """(float[2,3,4,4] x) => (float[3,4,4] y) {
            y = ReduceMean<axes=[0], keepdims=0>(x)
        }"""
        ),
        "the fixed batch of 2 cannot be followed through ReduceMean",
    ),
}


@pytest.mark.parametrize(("model", "found"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_file_that_holds_no_image_classifier_is_refused(model: onnx.ModelProto, found: str) -> None:
    with pytest.raises(ModelError, match=f"^{NAME}: .*{found}"):
        canonicalise(model, NAME, allow_uncanonical=True)


@pytest.mark.parametrize("opset", [5, 99])
def test_an_opset_that_cannot_be_converted_is_refused(opset: int) -> None:
    shape = [1, 3, 8, 8]
    node = helper.make_node("Upsample" if opset == 5 else "Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with pytest.raises(ModelError, match=f"{NAME}: opset {opset} cannot be brought to 20"):
        canonicalise(model, NAME)
