"""The portable INT8 file keeps its dynamic batch in OpenVINO, whatever follows patches and normalisations."""

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.host.quantize.small_vit import (
    CLASSES,
    DIM,
    HEADS,
    NORMAL,
    PATCH,
    PREPROCESS,
    SIDE,
    images,
    run,
    written,
)
from tests.host.vit_forms import Export, randomised, to_onnx
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.vit import Distillation, Pooling, VisionTransformer, VitConfig
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import InputForm, ModelForm
from vit_edge.verify.metrics import logit_sqnr_db

CLS = VitConfig((SIDE, SIDE), (PATCH, PATCH), DIM, 2, HEADS, mlp_dim=2 * DIM, num_classes=CLASSES)
CONFIGS = {
    "class token": CLS,
    "mean of all tokens": dataclasses.replace(CLS, pooling=Pooling.MEAN),
    "mean, no class token": dataclasses.replace(CLS, pooling=Pooling.MEAN, cls_token=False),
    "two heads": dataclasses.replace(CLS, distillation=list(Distillation)[-1]),
}


def vit(config: VitConfig) -> onnx.ModelProto:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = randomised(VisionTransformer(config), 5)
    return to_onnx(model, Export(False, 17, None), (3, SIDE, SIDE))


def compiled(model: onnx.ModelProto) -> Any:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs openvino, the extra of that name"
)
@pytest.mark.parametrize("form", InputForm)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_openvino_compiles_the_dynamic_batch_and_answers_as_onnxruntime(
    config: VitConfig, form: InputForm, tmp_path: Path
) -> None:
    canonical = canonicalise(vit(config), "small")
    search = search_of(canonical, written(tmp_path, 8), PREPROCESS, QuantizeSettings(Preset.STATIC))
    model = lower(search.canonical, LowerSettings(ModelForm(None, form), NORMAL), search.first().plan)
    runs = compiled(model)
    for count in (1, 3):
        pixels = images(count, seed=9)
        given = pixels if form is InputForm.PIXELS else normalize(pixels, PREPROCESS)
        # integers alike but for values next to the middle of two steps, and onnxruntime may saturate
        assert logit_sqnr_db(run(model, given), np.asarray(runs([given])[0])) > 20
