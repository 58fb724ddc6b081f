"""INT8 files whose activations are int8 instead of uint8: the same steps, numbered 128 lower."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.arithmetic import exact_session
from tests.host.quantize.forced import ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import PREPROCESS, images, written
from vit_edge.arrays import Float32
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.spec import ActivationType, InputForm, ModelForm


def _activation_types(model: onnx.ModelProto) -> set[int]:
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {types[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def _logits(model: onnx.ModelProto, image: Float32) -> Float32:
    """Exactly; and without the option that keeps signed activations signed: on x86 they become uint8."""
    session = exact_session(model.SerializeToString())
    logits: Float32 = session.run(None, {model.graph.input[0].name: image})[0]
    return logits


@pytest.mark.parametrize("costs", [STATIC_FIRST, ROW_FIRST], ids=["static ranges", "row ranges"])
def test_signed_activations_give_the_logits_of_unsigned_ones(tmp_path: Path, costs: Costs) -> None:
    """Within 1e-4 on nearly every image: the integers are the same, added up in another kernel.

    On an image where a value lies on the edge between two codes, one step more or less is seen behind it.
    """
    paths = written(tmp_path, 6)
    canonical, found = quantized(paths, QuantizeSettings(images=6), costs, costs)
    mean, std = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    values = (images(12, seed=5).transpose(0, 3, 1, 2) / np.float32(255) - mean) / std
    models = {
        kind: lower(
            canonical,
            LowerSettings(ModelForm(1, InputForm.PIXEL_VALUES, kind), normalisation_of(PREPROCESS)),
            found.plan,
        )
        for kind in (ActivationType.UINT8, ActivationType.INT8)
    }
    assert _activation_types(models[ActivationType.INT8]) == {onnx.TensorProto.INT8}
    assert onnx.TensorProto.UINT8 in _activation_types(models[ActivationType.UINT8])
    unsigned, signed = (
        np.concatenate([_logits(models[kind], value[None]) for value in values])
        for kind in (ActivationType.UINT8, ActivationType.INT8)
    )
    alike = np.abs(signed - unsigned).max(axis=1) <= 1e-4
    assert alike.sum() >= 9
    np.testing.assert_allclose(signed, unsigned, atol=0.2)


def test_uint8_pixels_stay_uint8_where_activations_are_signed(tmp_path: Path) -> None:
    """The image comes as it is; only what the model itself quantizes is signed."""
    canonical, found = quantized(written(tmp_path, 4), QuantizeSettings(images=4))
    form = ModelForm(1, InputForm.PIXELS, ActivationType.INT8)
    model = lower(canonical, LowerSettings(form, normalisation_of(PREPROCESS)), found.plan)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert _activation_types(model) == {onnx.TensorProto.INT8}
