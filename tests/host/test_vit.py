"""The reference ViT against torch's own encoder layer, its formulas, and its export."""

import dataclasses
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from vit_edge.host.vit import (
    Activation,
    Attention,
    Distillation,
    EncoderLayer,
    PatchEmbedding,
    Pooling,
    VisionTransformer,
    VitConfig,
)

SMALL = VitConfig(
    image_size=(24, 32), patch_size=(8, 8), dim=32, depth=2, heads=4, mlp_dim=48, num_classes=5, channels=3
)


def images(count: int, config: VitConfig = SMALL) -> torch.Tensor:
    return torch.randn(count, 3, *config.image_size, generator=torch.Generator().manual_seed(0))


def model(**changes: Any) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(dataclasses.replace(SMALL, **changes)).eval()


@pytest.mark.parametrize(("kind", "name"), [(Activation.GELU, "gelu"), (Activation.RELU, "relu")])
def test_an_encoder_layer_computes_what_torchs_pre_norm_layer_computes(kind: Activation, name: str) -> None:
    torch.manual_seed(1)
    ours = EncoderLayer(dataclasses.replace(SMALL, activation=kind)).eval()
    theirs = nn.TransformerEncoderLayer(
        SMALL.dim,
        SMALL.heads,
        SMALL.mlp_dim,
        0.0,
        name,
        SMALL.layer_norm_eps,
        batch_first=True,
        norm_first=True,
    )
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.attn.qkv.weight,
            "self_attn.in_proj_bias": ours.attn.qkv.bias,
            "self_attn.out_proj.weight": ours.attn.proj.weight,
            "self_attn.out_proj.bias": ours.attn.proj.bias,
            "linear1.weight": ours.mlp.fc1.weight,
            "linear1.bias": ours.mlp.fc1.bias,
            "linear2.weight": ours.mlp.fc2.weight,
            "linear2.bias": ours.mlp.fc2.bias,
            "norm1.weight": ours.norm1.weight,
            "norm1.bias": ours.norm1.bias,
            "norm2.weight": ours.norm2.weight,
            "norm2.bias": ours.norm2.bias,
        }
    )
    x = torch.randn(3, SMALL.tokens, SMALL.dim)
    # Two float32 evaluations of one formula on values of order 1.
    torch.testing.assert_close(ours(x), theirs.eval()(x), atol=1e-5, rtol=0)


def test_the_tanh_activation_is_torchs_tanh_approximation() -> None:
    layer = EncoderLayer(dataclasses.replace(SMALL, activation=Activation.GELU_TANH))
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(layer.mlp.act(x), nn.functional.gelu(x, approximate="tanh"))
    assert (layer.mlp.act(x) - nn.functional.gelu(x)).abs().max() > 1e-5


def test_attention_equals_torchs_scaled_dot_product() -> None:
    torch.manual_seed(2)
    attention = Attention(SMALL)
    nn.init.normal_(attention.qkv.weight)
    x = torch.randn(2, SMALL.tokens, SMALL.dim)
    query, key, value = attention.qkv(x).reshape(2, SMALL.tokens, 3, SMALL.heads, -1).permute(2, 0, 3, 1, 4)
    mixed = nn.functional.scaled_dot_product_attention(query, key, value)
    expected = attention.proj(mixed.transpose(1, 2).reshape(2, SMALL.tokens, SMALL.dim))
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


def test_a_patch_is_flattened_and_projected_in_row_major_order() -> None:
    torch.manual_seed(3)
    embedding, x = PatchEmbedding(SMALL), images(1)
    embedded = embedding(x)
    weight = embedding.proj.weight.flatten(1)
    for row, column in ((0, 0), (0, 3), (2, 1)):
        patch = x[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten()
        expected = nn.functional.linear(patch, weight, embedding.proj.bias)
        torch.testing.assert_close(embedded[0, 4 * row + column], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "prefix"),
    [
        ({}, 1),
        ({"cls_token": False, "pooling": Pooling.MEAN}, 0),
        ({"distillation": Distillation.TOKEN}, 2),
        ({"distillation": Distillation.HEAD, "register_tokens": 4}, 6),
        ({"register_tokens": 3, "pooling": Pooling.MEAN, "norm_after_pool": True}, 4),
        ({"qkv_bias": False}, 1),
    ],
)
def test_every_variant_counts_its_tokens_and_classifies(changes: dict[str, Any], prefix: int) -> None:
    vit = model(**changes)
    assert vit.config.prefix_tokens == prefix
    assert vit.forward_features(images(2)).shape == (2, prefix + 12, SMALL.dim)
    assert vit(images(2)).shape == (2, SMALL.num_classes)


def test_the_head_reads_the_class_token() -> None:
    vit = model()
    torch.testing.assert_close(vit(images(2)), vit.head(vit.forward_features(images(2))[:, 0]))


def test_mean_pooling_leaves_the_prefix_tokens_out() -> None:
    vit = model(pooling=Pooling.MEAN, register_tokens=2)
    tokens = vit.forward_features(images(2))
    torch.testing.assert_close(vit(images(2)), vit.head(tokens[:, 3:].mean(dim=1)))


def test_a_norm_behind_the_pooling_acts_on_the_pooled_vector() -> None:
    vit = model(pooling=Pooling.MEAN, norm_after_pool=True)
    pooled = vit.forward_features(images(2))[:, 1:].mean(dim=1)
    state = vit.state_dict()
    normed = nn.functional.layer_norm(
        pooled, (SMALL.dim,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6
    )
    torch.testing.assert_close(vit(images(2)), vit.head(normed))


def test_two_heads_are_averaged() -> None:
    vit = model(distillation=Distillation.HEAD)
    tokens = vit.forward_features(images(2))
    assert vit.head_dist is not None
    expected = (vit.head(tokens[:, 0]) + vit.head_dist(tokens[:, 1])) / 2
    torch.testing.assert_close(vit(images(2)), expected)


def test_an_image_is_classified_alike_alone_and_in_a_batch() -> None:
    vit, batch = model(), images(4)
    alone = torch.cat([vit(image.unsqueeze(0)) for image in batch])
    torch.testing.assert_close(vit(batch), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [{"distillation": Distillation.HEAD}, {"pooling": Pooling.MEAN, "cls_token": False}],
    ids=["prefix tokens", "mean"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of the exporter itself
def test_the_onnx_export_keeps_the_batch_free(changes: dict[str, Any]) -> None:
    vit = model(**changes)
    program = torch.onnx.export(
        vit,
        (images(2),),
        dynamo=True,
        opset_version=20,
        dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for count in (1, 3, 8):
        got = session.run(None, {"pixel_values": images(count).numpy()})[0]
        np.testing.assert_allclose(got, vit(images(count)).detach().numpy(), atol=1e-5)
    kinds = {node.op_type for node in program.model.graph}
    assert {"MatMul", "Softmax", "LayerNormalization", "Gelu"} <= kinds
    assert not kinds & {"IsNaN", "Where", "If", "Loop"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 30}, "dim 30 is no multiple of heads 4"),
        ({"depth": 0}, "depth must be from 1 to"),
        ({"image_size": (30, 32)}, "no multiple of patch_size"),
        ({"patch_size": (0, 8)}, "must be positive"),
        ({"register_tokens": -1}, "must be positive"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps"),
        ({"cls_token": False}, "needs cls_token"),
        ({"pooling": Pooling.MEAN, "distillation": Distillation.HEAD}, "needs pooling 'cls'"),
    ],
)
def test_an_impossible_configuration_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)
