"""The same census on a published ViT-Tiny, where the data is at hand."""

from pathlib import Path

import pytest

from tests.host.quantize.census import assert_integer, optimised
from tests.host.quantize.forced import ROW_FIRST, STATIC_FIRST, give_costs
from vit_edge.host.convert.export import export
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize import balance as balance_module
from vit_edge.host.quantize import plans as plans_module
from vit_edge.host.quantize.probe import Probe
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.quantize.weights import nearest
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.spec import GraphStyle, InputForm, ModelForm, ResizeMode

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not (DATA / "vit_tiny_imagenet").is_dir(),
    reason="needs ../shared/data: ViT-Tiny weights and ImageNet images",
)


def test_every_product_of_vit_tiny_runs_in_an_integer_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer in the form given as the cheapest; neither that form nor the rounding is searched for."""
    monkeypatch.setattr(balance_module, "STRENGTHS", (0.0,))
    monkeypatch.setattr(plans_module, "gptq_rounded", lambda weight, scale, *_: nearest(weight, scale))
    monkeypatch.setattr(Probe, "noise", lambda *_: 0.0)
    give_costs(monkeypatch, STATIC_FIRST, ROW_FIRST)
    options = SourceOptions(resize_mode=ResizeMode.SHORT_SIDE, crop_pct=0.9)
    source = resolve(str(DATA / "vit_tiny_imagenet" / "hf"), options)
    canonical = canonicalise(export(source)[0], source.name)
    paths = sorted((DATA / "imagenet_calibration").iterdir())[:2]
    settings = QuantizeSettings(Preset.FAST, images=2)
    search = search_of(canonical, paths, source.preprocess, settings)
    canonical, found = search.canonical, search.first()
    graph = canonical.model.graph
    linears, attentions = (len(list(composites(graph, kind))) for kind in (LINEAR, ATTENTION))
    apart = sum(len(found.channels) for found in search.folded.outliers)
    assert (linears, attentions) == (4 * 12 + 2 + apart, 12)
    assert (len(found.plan.linears), len(found.plan.attentions)) == (linears, attentions)
    forms = {
        ModelForm(1, InputForm.PIXELS): 0,
        ModelForm(None, InputForm.PIXEL_VALUES): 0,
        ModelForm(None, InputForm.PIXELS, style=GraphStyle.CODES): attentions,
    }
    for form, in_codes in forms.items():
        model = lower(canonical, LowerSettings(form, normalisation_of(source.preprocess)), found.plan)
        assert_integer(optimised(model, tmp_path).graph, found.plan, linears, attentions, in_codes)
