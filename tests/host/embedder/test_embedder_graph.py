"""The embedder's graph gives the tokens of its classifier, as torch and transformers compute them."""

import functools
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.host.vit_families import FAMILIES
from tests.host.vit_forms import (
    DEPTH,
    DIM,
    FORMS,
    Block,
    Export,
    PackedAttention,
    PlainVit,
    export_of,
    exported,
    randomised,
    to_onnx,
)
from vit_edge.arrays import Array
from vit_edge.errors import ContractError
from vit_edge.host.embedder.graph import FeatureGraph, NormPlace, feature_graph
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.vit import VisionTransformer
from vit_edge.spec import LOGITS, ModelForm

HOW = Export(True, 20, None)
TOLERANCE = 5e-5  # of values up to 5: onnxruntime's float32 arithmetic against torch's

# The class token where the head reads it by itself; these heads read the mean of the patches alone.
MEAN_ONLY = {"own-registers-mean", "mean-relu"}


@functools.cache
def features(form: str) -> FeatureGraph:
    return feature_graph(canonicalise(exported(form, HOW), form))


@functools.cache
def tokens(form: str) -> Array:
    """The last hidden states (N, tokens, D) by torch, of the very model that `exported` exports."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(FORMS[form].build())
    with torch.inference_mode():
        made: Array = last_hidden_state(model)(torch.from_numpy(images(form))).numpy()
    return made


def last_hidden_state(model: nn.Module) -> Callable[[Tensor], Tensor]:
    if isinstance(model, VisionTransformer):
        return model.forward_features
    if isinstance(model, PlainVit):
        return functools.partial(output_of, model, model.norm)
    base = model.get_submodule("model").base_model  # transformers
    assert isinstance(base, nn.Module)
    return lambda given: base(pixel_values=given).last_hidden_state


def output_of(model: nn.Module, part: nn.Module, given: Tensor) -> Tensor:
    """What a part of the model gives on the way."""
    seen: list[Tensor] = []
    handle = part.register_forward_hook(lambda *given_and_made: seen.append(given_and_made[-1]))
    model(given)
    handle.remove()
    return seen[0]


def images(form: str, count: int = 3) -> Array:
    size = FORMS[form].expected.image
    return np.random.default_rng(1).standard_normal((count, 3, *size), dtype=np.float32)


def run(
    graph: FeatureGraph, given: Array, batch: int | None = None, logits: bool = False
) -> dict[str, Array]:
    names = (*graph.outputs, LOGITS) if logits else graph.outputs
    model = lower(graph.canonical, LowerSettings(ModelForm(batch), outputs=names))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, {"pixel_values": given}), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_patch_features_are_the_last_hidden_state_without_its_prefix(form: str) -> None:
    expected, description = tokens(form), FORMS[form].expected
    made = run(features(form), images(form))["patch_features"]
    grid = tuple(size // patch for size, patch in zip(description.image, description.patch, strict=True))
    assert made.shape == (3, *grid, DIM)
    patches = expected[:, description.prefix_tokens :]
    np.testing.assert_allclose(made.reshape(patches.shape), patches, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in MEAN_ONLY])
def test_the_cls_embedding_is_the_first_token_of_the_last_hidden_state(form: str) -> None:
    made = run(features(form), images(form))["cls_embedding"]
    np.testing.assert_allclose(made, tokens(form)[:, 0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", sorted(MEAN_ONLY))
def test_a_head_that_reads_no_class_token_leaves_no_cls_embedding(form: str) -> None:
    assert features(form).outputs == ("pooled_embedding", "patch_features")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "own-registers-mean"])
def test_the_pooled_embedding_is_the_mean_of_the_patch_features(form: str) -> None:
    made = run(features(form), images(form))
    mean = made["patch_features"].mean(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(made["pooled_embedding"], mean, atol=TOLERANCE, rtol=0)


def test_where_the_mean_is_normalised_the_pooled_embedding_is_what_the_head_reads() -> None:
    """As timm has it with `fc_norm`: tokens as they leave the last block, and the norm of their mean."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(FORMS["own-registers-mean"].build())
    assert isinstance(model, VisionTransformer)
    with torch.inference_mode():
        expected = output_of(model, model.fc_norm, torch.from_numpy(images("own"))).numpy()
    graph = features("own-registers-mean")
    assert graph.norm.place is NormPlace.MEAN
    made = run(graph, images("own"))["pooled_embedding"]
    np.testing.assert_allclose(made, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_head_makes_the_classifiers_logits_of_the_embedders_tokens(form: str) -> None:
    given = images(form)
    session = onnxruntime.InferenceSession(
        exported(form, HOW).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(["logits"], {"pixel_values": given})[0]
    made = run(features(form), given, logits=True)[LOGITS]
    np.testing.assert_allclose(made, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", ["own-distilled", "vit-sdpa", "own-wide", "mean-relu"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_gives_what_a_dynamic_one_gives(form: str, batch: int) -> None:
    given = images(form, batch)
    fixed, dynamic = run(features(form), given, batch), run(features(form), given)
    for name in features(form).outputs:
        np.testing.assert_allclose(fixed[name], dynamic[name], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", ["own", "own-distilled", "mean-relu"])
def test_the_classifiers_own_graph_stays_as_it_is(form: str) -> None:
    canonical = canonicalise(exported(form, HOW), form)
    before = lower(canonical, LowerSettings()).SerializeToString(deterministic=True)
    feature_graph(canonical)
    assert lower(canonical, LowerSettings()).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("form", ["vit-sdpa", "deit", "own-distilled", "torchvision"])
def test_the_last_block_computes_every_token_again(form: str) -> None:
    expected = FORMS[form].expected
    assert expected.last_block_tokens < expected.tokens
    graph = features(form)
    assert graph.pruned
    assert graph.last_block == f"blocks.{DEPTH - 1}"


class TwoNorms(PlainVit):
    """Normalises its first two tokens by two different norms."""

    def __init__(self) -> None:
        super().__init__(*(Block(PackedAttention(), nn.GELU()) for _ in range(DEPTH)))
        self.other = nn.LayerNorm(DIM)

    def forward(self, pixel_values: Tensor) -> Tensor:
        assert self.token is not None
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        x = self.blocks(x)
        logits: Tensor = self.head(self.norm(x)[:, 0]) + self.head(self.other(x)[:, 1])
        return logits


class Unnormalised(PlainVit):
    """Has no norm behind its last block."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        assert self.token is not None
        x = self.embed(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        logits: Tensor = self.head(self.blocks(x)[:, 0])
        return logits


def test_two_final_norms_are_refused() -> None:
    canonical = canonicalise(to_onnx(randomised(TwoNorms()), HOW), "twofold")
    with pytest.raises(ContractError, match=r"twofold .* normalises the tokens in 2 different ways"):
        feature_graph(canonical)


def test_without_a_final_norm_nothing_is_normalised() -> None:
    model = randomised(Unnormalised(*(Block(PackedAttention(), nn.GELU()) for _ in range(DEPTH))))
    graph = feature_graph(canonicalise(to_onnx(model, HOW), "bare"))
    assert graph.norm.place is NormPlace.NONE
    given = images("own")
    with torch.inference_mode():
        expected = output_of(model, model.get_submodule("blocks"), torch.from_numpy(given)).numpy()
    made = run(graph, given)
    np.testing.assert_allclose(made["cls_embedding"], expected[:, 0], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(
        made["patch_features"].reshape(3, -1, DIM), expected[:, 1:], atol=TOLERANCE, rtol=0
    )


class Convolutions(nn.Module):
    """A classifier, but no vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, DIM, 3), nn.Linear(DIM, 5)

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(pixel_values).relu().mean(dim=(2, 3)))
        return logits


def test_a_model_without_patches_is_refused() -> None:
    model = to_onnx(Convolutions().eval(), HOW)
    canonical = canonicalise(model, "convolutions", allow_uncanonical=True)
    with pytest.raises(ContractError, match=r"convolutions has no patch grid .* found 0"):
        feature_graph(canonical)
    with pytest.raises(ContractError, match="expected one patch embedding, found 0"):
        canonicalise(model, "convolutions")


def test_a_model_that_merges_its_patches_has_no_one_grid() -> None:
    canonical = canonicalise(export_of(FAMILIES["swin"], HOW), "swin")
    with pytest.raises(ContractError, match=r"swin has no one grid of patches .* 2 stages; build it without"):
        feature_graph(canonical)


def hidden_state_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    if isinstance(model, PlainVit):
        return functools.partial(output_of, model, model.norm)
    return lambda given: model.get_submodule("model")(pixel_values=given).last_hidden_state


@pytest.mark.parametrize("family", ["dinov3", "eva", "normed-heads"])
def test_a_family_with_turned_tokens_gives_its_last_hidden_state(family: str) -> None:
    form = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(form.build())
    given = np.random.default_rng(1).standard_normal((3, 3, *form.expected.image), dtype=np.float32)
    with torch.inference_mode():
        expected = hidden_state_of(model)(torch.from_numpy(given)).numpy()
    graph = feature_graph(canonicalise(export_of(form, HOW), family))
    made = run(graph, given)["patch_features"]
    patches = expected[:, form.expected.prefix_tokens :]
    np.testing.assert_allclose(made.reshape(patches.shape), patches, atol=TOLERANCE, rtol=0)
