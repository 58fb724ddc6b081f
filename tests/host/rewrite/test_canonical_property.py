"""Random vision transformers: rewriting, each single step of it, and lowering preserve the function."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.host.composite_reference import evaluate
from tests.host.vit_forms import Export, randomised, run, to_onnx
from vit_edge.arrays import Array
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite import canonical as canonical_module
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.rewrite.prepare import prepare
from vit_edge.host.rewrite.rule import Outcome, Rule, apply_rule
from vit_edge.host.vit import Activation, Pooling, VisionTransformer, VitConfig

TOLERANCE = 1e-4  # of logits of order one, float32
FEW = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Scaled(nn.Module):
    """A branch with LayerScale behind it."""

    def __init__(self, branch: nn.Module, dim: int) -> None:
        super().__init__()
        self.branch, self.scale = branch, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.branch(x) * self.scale
        return scaled


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A random model and how it is exported."""

    config: VitConfig
    layer_scale: bool
    how: Export
    seed: int

    def proto(self) -> onnx.ModelProto:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = VisionTransformer(self.config)
        for block in model.blocks if self.layer_scale else []:
            for branch in ("attn", "mlp"):
                setattr(block, branch, Scaled(block.get_submodule(branch), self.config.dim))
        image = (self.config.channels, *self.config.image_size)
        return to_onnx(randomised(model, self.seed), self.how, image)

    def images(self, count: int) -> Array:
        shape = (count, self.config.channels, *self.config.image_size)
        return np.random.default_rng(self.seed).normal(size=shape).astype(np.float32)


@st.composite
def models(draw: st.DrawFn, most_blocks: int = 3) -> Drawn:
    heads, patch = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([(2, 2), (4, 2), (3, 5)]))
    pooling = draw(st.sampled_from(Pooling))
    config = VitConfig(
        image_size=(patch[0] * draw(st.integers(1, 4)), patch[1] * draw(st.integers(2, 4))),
        patch_size=patch,
        dim=heads * draw(st.sampled_from([2, 4, 8])),
        depth=draw(st.integers(1, most_blocks)),
        heads=heads,
        mlp_dim=draw(st.sampled_from([4, 12])),
        num_classes=draw(st.integers(1, 4)),
        channels=draw(st.sampled_from([1, 3])),
        cls_token=pooling is Pooling.CLS or draw(st.booleans()),
        register_tokens=draw(st.sampled_from([0, 2])),
        pooling=pooling,
        norm_after_pool=draw(st.booleans()),
        activation=draw(st.sampled_from(Activation)),
        qkv_bias=draw(st.booleans()),
    )
    how = Export(False, draw(st.sampled_from([11, 13, 16, 17])), draw(st.sampled_from([None, 1, 2])))
    return Drawn(config, draw(st.booleans()), how, draw(st.integers(0, 1000)))


@FEW
@given(models())
def test_rewriting_and_lowering_preserve_the_function_and_find_the_sizes(drawn: Drawn) -> None:
    given_model, images = drawn.proto(), drawn.images(4)
    canonical = canonicalise(given_model, "drawn")
    lowered = lower(canonical, LowerSettings())
    np.testing.assert_allclose(run(lowered, images), run(given_model, images), rtol=TOLERANCE, atol=TOLERANCE)
    found, config = canonical.description, drawn.config
    assert found is not None
    assert (found.depth, found.width, found.heads) == (config.depth, config.dim, config.heads)
    assert (found.mlp_width, found.classes, found.channels) == (
        config.mlp_dim,
        config.num_classes,
        config.channels,
    )
    assert (found.tokens, found.prefix_tokens) == (config.tokens, config.prefix_tokens)
    assert (found.image, found.patch) == (config.image_size, config.patch_size)
    assert found.activation == config.activation.value


@FEW
@given(models())
def test_rewriting_is_idempotent(drawn: Drawn) -> None:
    once = lower(canonicalise(drawn.proto(), "drawn"), LowerSettings())
    twice = lower(canonicalise(once, "drawn"), LowerSettings())
    assert [node.op_type for node in twice.graph.node] == [node.op_type for node in once.graph.node]


@pytest.mark.parametrize("batch", [2, 3])
def test_a_layer_as_wide_as_the_fixed_batch_is_not_taken_for_the_batch(batch: int) -> None:
    config = VitConfig(
        (4, 4), (2, 2), dim=batch, depth=1, heads=1, mlp_dim=batch, num_classes=batch, channels=batch
    )
    drawn = Drawn(config, False, Export(False, 17, batch), 0)
    given_model, images = drawn.proto(), drawn.images(batch)
    lowered = lower(canonicalise(given_model, "drawn"), LowerSettings())
    np.testing.assert_allclose(run(lowered, images), run(given_model, images), rtol=TOLERANCE, atol=TOLERANCE)


@contextmanager
def _each_step_checked(expected: Array, feeds: dict[str, Array]) -> Iterator[list[str]]:
    """Within it, the logits are compared after every rule that fired; yields the names of those rules."""
    fired: list[str] = []

    def checked(kind: type[Rule], model: ir.Model) -> Outcome:
        outcome = apply_rule(kind, model)
        if outcome.fired:
            fired.append(outcome.rule)
            (found,) = evaluate(model, feeds)
            np.testing.assert_allclose(
                found, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"after {outcome.rule}"
            )
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical_module, "apply_rule", checked)
        yield fired


@settings(parent=FEW, max_examples=6)
@given(models(most_blocks=2))
def test_every_single_step_preserves_the_function(drawn: Drawn) -> None:
    given_model, image = drawn.proto(), drawn.images(1)
    name = given_model.graph.input[0].name
    repeated = np.repeat(image, drawn.how.batch or 1, axis=0)
    expected = run(given_model, repeated)[:1]
    (prepared,) = evaluate(prepare(given_model, "drawn"), {name: image})
    np.testing.assert_allclose(prepared, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg="after prepare")
    with _each_step_checked(expected, {name: image}) as fired:
        canonicalise(given_model, "drawn")
    assert {"RaiseEmbed", "RaiseAttention", "MergeQkv"} <= set(fired)
