"""Noise of layers in front of heads that make maps, and of networks that are no ViT: gradients pass them."""

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.dense_models import DENSE, dense_onnx
from tests.host.pictures import smooth_folders
from tests.host.quantize.convnets import IMAGE as WIDER
from tests.host.quantize.convnets import NETWORKS, network_onnx
from tests.host.vit_forms import IMAGE
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.lower.model import lower
from vit_edge.host.ort import cpu_session
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize import estimate
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.estimate import estimated
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.progress import silent
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

SETTINGS = QuantizeSettings(Preset.BALANCED, 8)
HALF = (0.5, 0.5, 0.5)
MODELS = {
    **{kind: (functools.partial(dense_onnx, kind), IMAGE) for kind in DENSE},
    **{kind: (functools.partial(network_onnx, kind), WIDER) for kind in NETWORKS},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    smooth_folders(folder, {"calib": 8})
    return sorted((folder / "calib").iterdir())


def search_of(model: onnx.ModelProto, size: int, paths: list[Path]) -> Search:
    canonical = canonicalise(normal_form(model, "model"), "model", allow_uncanonical=True)
    geometry = ResizeMode.EXACT, (size, size), Interpolation.BILINEAR
    preprocess = PreprocessSpec(size, size, *geometry, HALF, HALF)
    folded = fold(canonical, calibrate(canonical, paths, preprocess, SETTINGS))
    return Search(folded, plan_set(folded, SETTINGS.arithmetics), SETTINGS)


@pytest.mark.parametrize("kind", MODELS)
def test_a_gradient_passes_whatever_stands_behind_the_layers(
    kind: str, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 50 signs; what the outputs are not linear in, 8 small images and random weights leave 3 dB."""
    monkeypatch.setattr(estimate, "SIGNS", 50)
    make, size = MODELS[kind]
    search = search_of(make(), size, paths)
    probe = search.probe
    found = estimated(
        search.canonical, search.lowering, search.plans, probe.images, probe.weights, silent("")
    )
    assert {name for name, _ in found} == {*search.plans.linears, *search.plans.attentions}
    off = []
    for (name, form), guess in found.items():
        if name in search.plans.linears:
            plan = QuantPlan({name: search.plans.linears[name][form]})
        else:
            plan = QuantPlan(attentions={name: search.plans.attentions[name][form]})
        off.append(decibels(guess.noise) - decibels(probe.noise(plan)))
    assert found
    assert abs(np.median(off)) < 1.0
    assert max(map(abs, off)) < 3.0


def test_a_transposed_convolution_is_computed_in_integers(paths: list[Path], tmp_path: Path) -> None:
    search = search_of(dense_onnx("decoder"), IMAGE, paths)
    plan = QuantPlan(convs={name: forms[Form.STATIC] for name, forms in search.plans.convs.items()})
    written = lower(search.canonical, search.lowering, plan)
    cpu_session(written.SerializeToString(), threads=1, optimised=tmp_path / "fused.onnx")
    inside = [
        next(name for name in node.input if name.endswith("weight"))
        for node in onnx.load(tmp_path / "fused.onnx").graph.node
        if node.op_type == "QLinearConv"
    ]
    assert set(inside) >= {"conv.0.weight", "conv.1.weight"}
    assert "ConvTranspose" not in [node.op_type for node in written.graph.node]
    assert decibels(search.probe.noise(plan)) > 30  # eight bits in one range, behind a Sigmoid
