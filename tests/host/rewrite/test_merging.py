"""Tokens merge as ToMe's paper says it, in every form of ViT that can, and in no other."""

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from tests.host.composite_reference import evaluate, merge_tokens
from tests.host.dense_models import dense_onnx
from tests.host.quantize.small_vit import PREPROCESS, images, lowering, small, written
from tests.host.vit_families import FAMILIES
from tests.host.vit_forms import FORMS, Export, Form, export_of, randomised, run, to_onnx
from vit_edge.arrays import Array
from vit_edge.errors import ContractError, UsageError
from vit_edge.host.lower.merging import Sides
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.rewrite.composites import MERGE, composites
from vit_edge.host.rewrite.merging import merged
from vit_edge.host.vit import Distillation, Pooling, VisionTransformer, VitConfig
from vit_edge.spec import ModelForm

HOW = Export(False, 17, None)
PARITY = 1e-4  # of logits, in shares of the largest
ALL = {**FORMS, **FAMILIES}
REFUSED = {
    "swin": "merges its patches itself",
    "swin-sdpa": "merges its patches itself",
    "swin-v2": "merges its patches itself",
    "dinov3": "turns queries and keys",
    "dinov3-gated": "turns queries and keys",
    "eva": "turns queries and keys",
    "normed-rotary": "turns queries and keys",
    "beit": "adds to each pair of places",
    "beit-sdpa": "adds to each pair of places",
    "beit-shared": "adds to each pair of places",
    "data2vec": "adds to each pair of places",
}


def model_of(**settings: object) -> VisionTransformer:
    """A ViT of 8 x 8 patches with every parameter random."""
    given = {"image_size": (32, 32), "patch_size": (4, 4), "dim": 48, "depth": 4, "heads": 3, "mlp_dim": 96}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = VisionTransformer(VitConfig(**{**given, "num_classes": 7, **settings}))  # type: ignore[arg-type]
        model = randomised(made, 3)
    assert isinstance(model, VisionTransformer)
    return model


@torch.no_grad()
def by_the_paper(model: VisionTransformer, images: Array, count: int) -> Array:
    """The logits of a ViT whose tokens merge, one image at a time, in torch and float64."""
    model = model.double()
    logits = [_of_one(model, torch.from_numpy(image[None]).double(), count) for image in images]
    model.float()
    return np.concatenate([each.numpy() for each in logits]).astype(np.float32)


def _of_one(model: VisionTransformer, image: Tensor, count: int) -> Tensor:
    config, prefix = model.config, model.config.prefix_tokens
    tokens = [t for t in (model.cls_token, model.dist_token, model.reg_token) if t is not None]
    x = torch.cat([*tokens, model.patch_embed(image)], dim=1)[0] + model.pos_embed[0]
    sizes = torch.ones(len(x), 1, dtype=torch.float64)
    for place, block in enumerate(model.blocks):
        packed = block.attn.qkv(block.norm1(x)).reshape(len(x), 3, config.heads, -1)  # type: ignore[operator, union-attr]
        q, k, v = packed.permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) / k.shape[-1] ** 0.5 + sizes[:, 0].log()
        mixed = (scores.softmax(dim=-1) @ v).transpose(0, 1).reshape(len(x), -1)
        x = x + block.attn.proj(mixed)  # type: ignore[operator, union-attr]
        last = place == config.depth - 1 and config.pooling is Pooling.CLS
        if count and not last:  # behind the last block nothing but the prefix is read
            made = merge_tokens(x.numpy(), k.mean(dim=0).numpy(), sizes.numpy(), count, prefix)
            x, sizes = (torch.from_numpy(each) for each in made)
        x = x + block.mlp(block.norm2(x))  # type: ignore[operator]
    x = model.norm(x)
    rest, each = x[prefix:], sizes[prefix:]
    pooled = x[0] if config.pooling is Pooling.CLS else (rest * each).sum(dim=0) / each.sum()
    logits: Tensor = model.head(model.fc_norm(pooled))
    if model.head_dist is not None:
        logits = (logits + model.head_dist(x[1])) / 2
    return logits[None]


KINDS: dict[str, dict[str, object]] = {
    "class token": {},
    "no bias of keys": {"qkv_bias": False},
    "two heads": {"distillation": Distillation.HEAD},
    "registers": {"register_tokens": 4},
    "mean behind a class token": {"pooling": Pooling.MEAN},
    "mean of patches alone": {"pooling": Pooling.MEAN, "cls_token": False},
    "mean, then the norm, behind registers": {
        "pooling": Pooling.MEAN,
        "register_tokens": 3,
        "norm_after_pool": True,
    },
    "a grid of odd sides": {"image_size": (20, 28)},
}


@functools.cache
def exported(kind: str) -> tuple[VisionTransformer, onnx.ModelProto]:
    model = model_of(**KINDS[kind])
    return model, to_onnx(model, HOW, (3, *model.config.image_size))


def pictures(model: VisionTransformer, count: int = 3) -> Array:
    shape = (count, 3, *model.config.image_size)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=PARITY * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_whose_tokens_merge_gives_the_logits_that_the_paper_says(kind: str, count: int) -> None:
    model, proto = exported(kind)
    canonical = merged(canonicalise(proto, kind, key_bias=True), count)
    given = pictures(model)
    close(run(lower(canonical, LowerSettings()), given), by_the_paper(model, given, count))


def test_merging_changes_the_answers_by_more_than_the_tolerance_of_that_test() -> None:
    model, proto = exported("class token")
    given = pictures(model)
    before, after = run(proto, given), by_the_paper(model, given, 3)
    close(before, by_the_paper(model, given, 0))
    assert np.abs(after - before).max() > 20 * PARITY * np.abs(before).max()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_and_single_images_give_the_same(batch: int) -> None:
    model, proto = exported("registers")
    canonical, given = merged(canonicalise(proto, "it", key_bias=True), 5), pictures(model, 2)
    fixed = lower(canonical, LowerSettings(ModelForm(batch)))
    parts = [run(fixed, given[start : start + batch]) for start in range(0, 2, batch)]
    np.testing.assert_array_equal(np.concatenate(parts), run(lower(canonical, LowerSettings()), given))


def canonical_of(form: str) -> Canonical:
    how = Export(True, 20, 1) if form in ("dinov2-registers", "rms") else HOW  # what the older one cannot say
    return canonicalise(export_of(ALL[form], how), form, key_bias=True)


def large(form: Form) -> bool:
    """Whether blocks have enough tokens to merge two of."""
    return form.expected.tokens >= 16


@pytest.mark.parametrize("form", [name for name, form in ALL.items() if name not in REFUSED and large(form)])
def test_the_operators_of_any_form_do_what_its_composites_mean(form: str) -> None:
    canonical = merged(canonical_of(form), 2)
    assert len(list(composites(canonical.model.graph, MERGE))) == len(canonical.merging.tokens) > 0  # type: ignore[union-attr]
    expected = ALL[form].expected
    image = np.random.default_rng(2).normal(size=(1, expected.channels, *expected.image)).astype(np.float32)
    meant = evaluate(canonical.model, {canonical.model.graph.inputs[0].name: image})[0]  # type: ignore[dict-item]
    close(run(lower(canonical, LowerSettings()), image), meant)


@pytest.mark.parametrize("form", REFUSED)
def test_a_form_whose_tokens_need_their_places_is_refused_in_one_line(form: str) -> None:
    with pytest.raises(ContractError, match=f"^{form} {REFUSED[form]}.*: leave --merge-tokens out$"):
        merged(canonical_of(form), 1)


@pytest.mark.parametrize(
    ("canonical", "says"),
    [
        (
            lambda: canonicalise(dense_onnx("decoder"), "it"),
            "makes maps of the whole grid of patches",
        ),
        (
            lambda: canonicalise(
                to_onnx(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten()), HOW),
                "it",
                allow_uncanonical=True,
            ),
            "is no canonical ViT",
        ),
    ],
    ids=["maps", "no ViT"],
)
def test_what_has_no_tokens_to_spare_is_refused(canonical: Callable[[], Canonical], says: str) -> None:
    with pytest.raises(ContractError, match=f"^it {says}.*: leave --merge-tokens out$"):
        merged(canonical(), 2)


def test_no_merging_is_the_very_same_graph() -> None:
    canonical = canonicalise(exported("class token")[1], "it", key_bias=True)
    assert merged(canonical, 0) is canonical


@pytest.mark.parametrize(("kind", "most"), [("class token", 16), ("mean of patches alone", 12)])
def test_as_many_merge_as_the_last_block_has_pairs_and_no_more(kind: str, most: int) -> None:
    """64 patches: three blocks merge where the class token is read, all four where the mean is."""
    model, proto = exported(kind)
    canonical, given = canonicalise(proto, kind, key_bias=True), pictures(model, 1)
    found = merged(canonical, most)
    close(run(lower(found, LowerSettings()), given), by_the_paper(model, given, most))
    with pytest.raises(UsageError, match=rf"--merge-tokens {most + 1} is more than .* at most {most}$"):
        merged(canonical, most + 1)
    with pytest.raises(UsageError, match="--merge-tokens must be at least 0, got -1"):
        merged(canonical, -1)


@pytest.mark.parametrize("rows", [5, 16, 17, 50])
@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_sides_hold_every_token_behind_the_prefix_once(rows: int, prefix: int) -> None:
    sides = Sides(rows, 4, prefix, 1)
    places = [range(start, rows, 2) for start, _ in (sides.first, sides.second)]
    assert sorted([*places[0], *places[1]]) == list(range(prefix, rows))
    assert [len(each) for each in places] == [sides.first[1], sides.second[1]]
    assert all(place % 2 == 0 for place in places[0])


def test_folding_the_keys_for_quantization_does_not_change_what_merges(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    canonical = small(key_bias=True)
    paths = written(tmp_path_factory.mktemp("images"), 4)
    folded = fold(canonical, calibrate(canonical, paths, PREPROCESS, QuantizeSettings(images=4)))
    given = images(4, 7)
    expected = run(lower(merged(canonical, 3), lowering(None)), given)
    close(run(lower(merged(folded.canonical, 3, folded.frames), lowering(None)), given), expected)
    assert len(folded.frames) == 3
    moved = run(lower(merged(folded.canonical, 3), lowering(None)), given)  # keys as folding left them
    assert np.abs(moved - expected).max() > 10 * PARITY * np.abs(expected).max()
