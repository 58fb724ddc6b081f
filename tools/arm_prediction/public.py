"""Latencies of INT8 and float that others measured on such cores and published: what predictions must meet.

All but the last are averages of `benchncnn` in ms at 224 pixels, batch 1, from the README of ncnn's
benchmark folder. Float runs in half precision there on cores that have it (Cortex-A76). The version of ncnn
is not stated; the tables of Raspberry Pi 4 and Orange Pi 5 are of late 2022 or later, as they hold models
that came with it.
"""

import dataclasses

from tools.arm_prediction.cores import CORTEX_A72, CORTEX_A76, Pipeline

NCNN = "https://github.com/Tencent/ncnn/blob/master/benchmark/README.md"


@dataclasses.dataclass(frozen=True)
class Measured:
    """A network on a board, in both precisions."""

    board: str
    pipeline: Pipeline
    gigahertz: float
    threads: int | None
    """None: not stated."""
    network: str
    float_ms: float
    int8_ms: float
    source: str = NCNN


def _of(
    board: str, pipeline: Pipeline, gigahertz: float, threads: int, *rows: tuple[str, float, float]
) -> tuple[Measured, ...]:
    return tuple(Measured(board, pipeline, gigahertz, threads, *row) for row in rows)


ULTRAFACE = "UltraFace RFB-320"  # by onnxruntime; the others by ncnn
_ARM = "https://developer.arm.com/ai/models/hugging-face/Arm/ultraface-rfb-320-onnx-raspberry/ultraface-rfb-320-int8-onnx"
MEASURED = (
    *_of(
        "Raspberry Pi 4 (Cortex-A72)", CORTEX_A72, 1.8, 1,
        ("ResNet-18", 191.10, 158.50),
        ("ResNet-50", 534.11, 423.96),
        ("MobileNet", 124.32, 84.82),
        ("VGG-16", 1071.85, 869.84),
    ),
    *_of(
        "Snapdragon 855+ (Kryo 485, a Cortex-A76)", CORTEX_A76, 2.96, 1,
        ("ResNet-18", 23.06, 44.95),
        ("ResNet-50", 67.26, 83.96),
        ("MobileNet", 14.72, 11.72),
        ("VGG-16", 135.50, 356.33),
    ),
    *_of(
        "Raspberry Pi 4 (Cortex-A72)", CORTEX_A72, 1.8, 4,
        ("ResNet-18", 123.12, 83.92),
        ("ResNet-50", 262.83, 196.65),
        ("MobileNet", 61.17, 34.37),
        ("VGG-16", 547.09, 394.23),
    ),
    *_of(
        "Orange Pi 5 (RK3588S, its Cortex-A76)", CORTEX_A76, 2.4, 4,
        ("ResNet-18", 9.93, 15.89),
        ("ResNet-50", 27.52, 33.08),
        ("MobileNet", 5.53, 4.56),
        ("VGG-16", 62.93, 130.65),
    ),
    Measured("Raspberry Pi 5 (Cortex-A76)", CORTEX_A76, 2.4, None, ULTRAFACE, 13.26, 6.66, _ARM),
)  # fmt: skip
