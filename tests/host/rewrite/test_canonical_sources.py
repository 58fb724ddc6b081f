"""Every source becomes the same canonical graph, and its lowering computes what the source computed.

Reference: onnxruntime on the graph as torch exported it. The weights are float32 and the logits of order one,
so a rewrite that is exact in real numbers stays far below the tolerance.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.host.vit_families import FAMILIES
from tests.host.vit_forms import FORMS, Export, export_of, run
from vit_edge.arrays import Array
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.spec import InputForm, ModelForm

EVERY_FORM = FORMS | FAMILIES
TOLERANCE = 1e-4  # of a logit
IMAGES = 4
NORMAL = Normalisation(np.asarray([0.5, 0.4, 0.3], np.float32), np.asarray([0.2, 0.3, 0.25], np.float32))


def _dynamo(opset: int, batch: int | None = None) -> Export:
    return Export(True, opset, batch)


def _script(opset: int, batch: int | None = None) -> Export:
    return Export(False, opset, batch)


CASES = [
    (form, how)
    for form, ways in {
        "own": (_dynamo(20), _script(17, 4)),
        "own-wide": (_dynamo(20, 1), _script(13)),
        "own-distilled": (_dynamo(18),),
        "own-registers-mean": (_dynamo(20, 4), _script(17)),
        "vit-eager": (
            _dynamo(20),
            _script(11),
            _script(11, 4),
            _script(12, 1),
            _script(13, 1),
            _script(17, 4),
        ),
        "vit-sdpa": (_dynamo(20), _dynamo(18, 4), _dynamo(23), _dynamo(24, 4), _script(14), _script(17, 4)),
        "vit-tanh": (_dynamo(20), _script(14)),
        "deit": (_dynamo(20), _script(17, 1)),
        "deit-distilled": (_dynamo(20), _script(17, 4)),
        "dinov2": (_dynamo(20), _script(17), _script(17, 1)),
        "dinov2-registers": (_dynamo(18, 4),),
        "timm-packed": (_dynamo(20), _script(16, 4)),
        "norm-by-rsqrt": (_dynamo(20), _script(17, 4)),
        "timm-split": (_dynamo(18, 1), _script(13)),
        "timm-tanh": (_script(17),),
        "einsum": (_script(17), _dynamo(20, 4)),
        "torchvision": (_dynamo(20), _script(17), _script(17, 4)),
        "clip": (_dynamo(20), _script(14, 4)),
        "clip-classifier": (_script(17),),
        "siglip": (_dynamo(20), _script(17)),
        "siglip-classifier": (_dynamo(20),),
        "map": (_dynamo(20),),
        "dinov3": (_dynamo(20), _dynamo(23), _script(17)),
        "dinov3-gated": (_dynamo(20),),
        "dinov2-giant": (_dynamo(20),),
        "beit": (_dynamo(20),),
        "beit-sdpa": (_script(17),),
        "beit-shared": (_dynamo(20),),
        "data2vec": (_dynamo(20),),
        "eva": (_dynamo(20), _script(16, 4)),
        "gated-packed": (_script(17),),
        "rms": (_dynamo(20), _dynamo(23), _dynamo(24, 4)),
        "rms-written-out": (_dynamo(23), _script(14), _script(17, 4)),
        "aimv2": (_dynamo(20), _dynamo(23), _dynamo(24, 1), _script(17)),
        "aimv2-native": (_dynamo(20),),
        "normed-heads": (_script(17),),
        "normed-rotary": (_dynamo(20), _dynamo(23)),
        "swin": (_dynamo(20), _script(17)),
        "swin-sdpa": (_script(17),),
        "swin-v2": (_dynamo(20), _script(17)),
        "mean-relu": (_dynamo(20), _script(13, 4)),
    }.items()
    for how in ways
]
EVERY_SOURCE = pytest.mark.parametrize(("form", "how"), CASES, ids=[f"{form}-{how}" for form, how in CASES])


class Rewritten(NamedTuple):
    """What was made of an export, and the export's bytes before and after."""

    canonical: Canonical
    before: bytes
    after: bytes


@functools.cache
def _rewritten(form: str, how: Export) -> Rewritten:
    given = export_of(EVERY_FORM[form], how)
    before = given.SerializeToString(deterministic=True)
    canonical = canonicalise(given, form)
    return Rewritten(canonical, before, given.SerializeToString(deterministic=True))


def _canonical(form: str, how: Export) -> Canonical:
    return _rewritten(form, how).canonical


@functools.cache
def _lowered(form: str, how: Export) -> onnx.ModelProto:
    return lower(_canonical(form, how), LowerSettings())


def _pixels(form: str) -> Array:
    """Random uint8 images (N, H, W, C)."""
    height, width = EVERY_FORM[form].expected.image
    return np.random.default_rng(7).integers(0, 256, (IMAGES, height, width, 3), np.uint8)


def _normalised(pixels: Array) -> Array:
    scaled = (pixels.astype(np.float32) / np.float32(255) - NORMAL.mean) / NORMAL.std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


@functools.cache
def _expected(form: str, how: Export) -> Array:
    return run(export_of(EVERY_FORM[form], how), _normalised(_pixels(form)))


def _operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@EVERY_SOURCE
def test_a_source_fulfils_the_contract(form: str, how: Export) -> None:
    canonical = _canonical(form, how)
    assert canonical.refusal is None
    assert canonical.description == EVERY_FORM[form].expected


@EVERY_SOURCE
def test_rewriting_leaves_the_given_model_alone(form: str, how: Export) -> None:
    made = _rewritten(form, how)
    assert made.after == made.before


@EVERY_SOURCE
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_lowered_pixel_values_give_the_logits_of_the_source(
    form: str, how: Export, batch: int | None
) -> None:
    images, expected = _normalised(_pixels(form)), _expected(form, how)
    lowered = lower(_canonical(form, how), LowerSettings(ModelForm(batch)))
    for count in (1, IMAGES) if batch is None else (batch,):
        assert np.abs(run(lowered, images[:count]) - expected[:count]).max() < TOLERANCE


@EVERY_SOURCE
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_lowered_pixels_give_the_logits_of_the_source(form: str, how: Export, batch: int | None) -> None:
    pixels, expected = _pixels(form), _expected(form, how)
    lowered = lower(_canonical(form, how), LowerSettings(ModelForm(batch, InputForm.PIXELS), NORMAL))
    for count in (1, IMAGES) if batch is None else (batch,):
        assert np.abs(run(lowered, pixels[:count]) - expected[:count]).max() < TOLERANCE


@EVERY_SOURCE
def test_rewriting_a_lowered_graph_gives_the_same_graph(form: str, how: Export) -> None:
    once = _lowered(form, how)
    again = canonicalise(once, form)
    twice = lower(again, LowerSettings())
    assert again.description == EVERY_FORM[form].expected
    assert _operators(twice) == _operators(once)
    images = _normalised(_pixels(form))
    assert np.abs(run(twice, images) - run(once, images)).max() < TOLERANCE


@pytest.mark.parametrize("form", ["vit-eager", "torchvision", "timm-split"])
def test_two_exporters_give_the_same_graph(form: str) -> None:
    hows = [how for name, how in CASES if name == form]
    lowered = [_lowered(form, how) for how in hows]
    assert len({tuple(_operators(model)) for model in lowered}) == 1
    images = _normalised(_pixels(form))
    logits = [run(model, images) for model in lowered]
    assert max(np.abs(other - logits[0]).max() for other in logits) < TOLERANCE


@EVERY_SOURCE
def test_a_lowered_file_is_portable(form: str, how: Export) -> None:
    lowered = _lowered(form, how)
    onnx.checker.check_model(lowered, full_check=True)
    assert [(opset.domain, opset.version) for opset in lowered.opset_import] == [("", 20)]
    assert lowered.ir_version == 9
    assert [value.name for value in lowered.graph.input] == ["pixel_values"]
    assert [value.name for value in lowered.graph.output] == ["logits"]
    arrays = [numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer]
    assert {array.dtype.name for array in arrays} <= {"float32", "int64"}


@EVERY_SOURCE
def test_a_lowered_file_holds_nothing_that_an_exporter_left(form: str, how: Export) -> None:
    expected = EVERY_FORM[form].expected
    operators = _operators(_lowered(form, how))
    count = {kind: operators.count(kind) for kind in set(operators)}
    assert count["Softmax"] == expected.depth + ("attention" in expected.pooling)
    of_squares = {count.get(kind, 0) for kind in ("Pow", "Sqrt")}  # a normalization by them has one of each
    assert len(of_squares) == 1
    assert count.get("LayerNormalization", 0) + of_squares.pop() >= 2 * expected.depth + 1
    assert count["Conv"] == 1
    assert not {"Where", "IsNaN", "Expand", "Shape", "Erf", "Tanh", "Reciprocal", "Cast"} & set(operators)


def test_the_attention_scale_and_the_biases_of_keys_and_values_are_gone() -> None:
    canonical = _canonical("vit-eager", _dynamo(20))
    for node in canonical.model.graph:
        if node.domain == "vit_edge" and node.op_type == "Attention":
            assert node.attributes["scale"].as_float() == 1.0
    fired = {outcome.rule: outcome.fired for outcome in canonical.outcomes}
    assert fired["FoldAttentionScale"] == fired["DropKeyBias"] == fired["FoldValueBias"] == 2


def test_every_layer_carries_its_canonical_name() -> None:
    names = {node.name for node in _canonical("vit-sdpa", _dynamo(20)).model.graph}
    layers = ("norm1", "attention", "proj", "add1", "norm2", "fc1", "act", "fc2", "add2")
    assert {f"blocks.{block}.{layer}" for block in range(2) for layer in layers} <= names
    assert {"embed", "norm", "head"} <= names


def test_a_description_is_plain_json() -> None:
    description = EVERY_FORM["own-wide"].expected
    plain = description.to_json()
    assert plain["image"] == [8, 24]
    assert plain["patch"] == [4, 8]
    assert set(plain) == {field.name for field in dataclasses.fields(description)}
