"""ONNX files of image towers that end in vectors of length 1, as transformers' users export them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from torch import Tensor, nn

from tests.host.vit_forms import IMAGE, SIZES, Export, randomised, run, to_onnx
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import OptimizeSettings, optimize_model
from vit_edge.host.convert.unit_length import ends_in_unit_length
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.spec import Interpolation, OutputKind, ResizeMode

TOLERANCE = 1e-5  # of numbers below 1
HALF = (0.5, 0.5, 0.5)
STATED = {"mean": HALF, "std": HALF, "interpolation": Interpolation.BICUBIC, "resize_mode": ResizeMode.EXACT}
DYNAMO, SCRIPT = Export(True, 20, None), Export(False, 17, None)


class Tower(nn.Module):
    """A CLIP's image tower, normalised in one of the ways that people write."""

    def __init__(self, way: str) -> None:
        super().__init__()
        config = transformers.CLIPVisionConfig(**SIZES, projection_dim=24, hidden_act="quick_gelu")
        self.model, self.way = transformers.CLIPVisionModelWithProjection(config), way

    def forward(self, pixel_values: Tensor) -> Tensor:
        x: Tensor = self.model(pixel_values=pixel_values).image_embeds
        if self.way == "F.normalize":
            return nn.functional.normalize(x, dim=-1)
        if self.way == "norm":
            length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            return x / length
        root: Tensor = x.pow(2).sum(-1, keepdim=True).sqrt()
        return x / root


def written(way: str, how: Export, path: Path) -> onnx.ModelProto:
    torch.manual_seed(0)
    model = to_onnx(randomised(Tower(way)), how, outputs=("image_embeds",))
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("how", [DYNAMO, SCRIPT], ids=str)
@pytest.mark.parametrize("way", ["F.normalize", "norm", "sum of squares"])
def test_it_is_recognised_canonical_and_gives_the_same_vectors(way: str, how: Export, tmp_path: Path) -> None:
    original = written(way, how, tmp_path / "tower.onnx")
    options: Any = STATED
    source = resolve(str(tmp_path / "tower.onnx"), SourceOptions(**options))
    assert (source.output, source.labels, source.numbers) == (OutputKind.UNIT_EMBEDDING, (), 24)
    assert any("it ends in a division by its own length" in note for note in source.notes)
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.depth, described.activation, described.classes) == (2, "quick_gelu", 24)
    optimize_model(tmp_path / "tower.onnx", tmp_path / "fast.onnx", OptimizeSettings())
    images = np.random.default_rng(0).standard_normal((3, 3, IMAGE, IMAGE)).astype(np.float32)
    fast = run(onnx.load(tmp_path / "fast.onnx"), images)
    np.testing.assert_allclose(fast, run(original, images), atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(fast, axis=1), 1.0, atol=TOLERANCE)


def test_what_is_stated_wins(tmp_path: Path) -> None:
    written("norm", DYNAMO, tmp_path / "tower.onnx")
    options: Any = {**STATED, "output_kind": OutputKind.EMBEDDING}
    source = resolve(str(tmp_path / "tower.onnx"), SourceOptions(**options))
    assert source.output is OutputKind.EMBEDDING
    assert not any("division by its own length" in note for note in source.notes)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("l = ReduceL2<axes=[-1]>(x)  y = Div(x, l)", True),
        ("y = LpNormalization<axis=-1, p=2>(x)", True),
        ("l = ReduceL2<axes=[-1]>(x)  c = Clip(l, e)  d = Div(x, c)  y = Identity(d)", True),
        ("l = ReduceL2<axes=[-1]>(z)  y = Div(x, l)", False),
        ("l = ReduceL1<axes=[-1]>(x)  y = Div(x, l)", False),
        ("l = ReduceL2<axes=[-1]>(x)  y = Mul(x, l)", False),
        ("y = Div(x, z)", False),
        ("y = Relu(x)", False),
    ],
)
def test_only_a_value_by_its_own_length_is_one(body: str, expected: bool) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[N,3] x, float[N,3] z) => (float[N,3] y) <float e = {{1e-12}}> {{ {body} }}"""
    )
    assert ends_in_unit_length(model) is expected
    assert ends_in_unit_length(model, "y") is expected
