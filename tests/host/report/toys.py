"""Facts for reports, made up, and a tiny quantized classifier as a real ONNX file."""

import dataclasses
import io

import numpy as np
from PIL import Image

from tests.manifests import METHOD, recipe
from vit_edge.host.report.facts import (
    Answer,
    Facts,
    FlippedImage,
    ModelFacts,
    WorstInput,
)
from vit_edge.host.report.operands import RangeKind
from vit_edge.host.report.ranges import ActivationRange, Ranges, WeightRange
from vit_edge.manifest import Fold, LayerRecord, Machine, OperatorTime
from vit_edge.runtime.measure.timing import latency, ratios_to_first
from vit_edge.spec import Tolerance
from vit_edge.verify import judge

IMAGES, CLASSES = 200, 12


def facts(labelled: bool = True, flips: int = 24, label: str = "tabby", name: str = "quant.onnx") -> Facts:
    """A plausible report on `name`; everything random is seeded."""
    random = np.random.default_rng(5)
    logits = random.normal(0, 3, (IMAGES, CLASSES)).astype(np.float32)
    noisy = logits + random.normal(0, 0.4, logits.shape).astype(np.float32)
    targets = logits.argmax(axis=1) if labelled else None
    gate = judge(logits, noisy, targets, Tolerance(2.0), [f"{label} {i}" for i in range(CLASSES)])
    times = np.abs(random.normal([9.0, 4.0], 0.3, (60, 2)))
    operators = tuple(
        OperatorTime(kind, "CPUExecutionProvider", 12, 3.0 / (i + 1), 0.3) for i, kind in enumerate("ABC")
    )
    models = tuple(
        ModelFacts(
            name=each,
            sha256=f"{index:064x}",
            size_mb=(20.0, 6.0)[index],
            providers=("CPUExecutionProvider",),
            latency=latency(times[:, index]),
            ratio=ratios_to_first(times)[index],
            times_ms=tuple(sorted(times[:, index].tolist())),
            peak_rss_mb=(120.0, None)[index],
            operators=operators,
            gate=(None, gate)[index],
        )
        for index, each in enumerate(("float.onnx", name))
    )
    layers = tuple(
        LayerRecord(f"blocks.{block}.{kind}", form, 20.0 + 3 * block, "the fastest form, 0.1 ms", "min-max")
        for block in range(4)
        for kind, form in (("qkv", "int8"), ("proj", "int8_row"), ("fc1", "float32"), ("fc2", "new form"))
    )
    layers += (
        LayerRecord("head", "int8", 31.0, "the fastest form", None),
        LayerRecord("gelu", "tanh", None, "", None),
    )
    activation = ActivationRange(
        "blocks.0.qkv",
        False,
        RangeKind.STATIC,
        (-2.0, 2.0),
        (-3.0, 2.5),
        0.01,
        24.0,
        (1.0, 3.0),
        (-3.0, 3.0),
        (1, 50, 900, 40),
    )
    exact = dataclasses.replace(activation, layer="embed", sqnr_db=float("inf"))
    row = dataclasses.replace(
        activation, layer="blocks.1.qkv", kind=RangeKind.PER_TOKEN, range=None, sqnr_db=30.0
    )
    run = dataclasses.replace(row, layer="blocks.2.qkv", kind=RangeKind.IMAGE, second=True)
    weight = WeightRange("blocks.0.qkv", 96, (0.1, 0.2, 0.9))
    worst = (
        WorstInput(activation, weight, layers[0]),
        WorstInput(row, None, None),
        WorstInput(run, None, None),
    )
    flipped = FlippedImage(
        "a.png", label if labelled else None, (Answer(label, 0.6),), (Answer("dog", 0.5),), jpeg()
    )
    return Facts(
        title=name,
        data="validation",
        labelled=labelled,
        held_out=False,
        reference="float.onnx",
        judged=name,
        default=name,
        gate=gate,
        models=models,
        flips=(flipped,) * flips,
        flips_total=31,
        layers=layers,
        ranges=Ranges(4, (activation, exact, row, run), (weight,)),
        worst=worst,
        recipe=recipe(dataclasses.replace(METHOD, folds=(Fold("x", 0.5, shifted=False),) * 9)),
        versions={"vit-edge": "0.1.0", "onnxruntime": "1.32.0"},
        machine=Machine("A processor", 2, ("avx2",), "Linux", "3.11.2", "1.32.0"),
        threads=1,
    )


def jpeg(side: int = 48) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()
