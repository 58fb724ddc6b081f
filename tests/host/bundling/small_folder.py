"""The small model as a file with images of its own, and forms whose cost is stated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.quantize.forced import STATIC_FIRST, give_costs
from tests.host.quantize.small_vit import PREPROCESS, proto, written
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.runtime.model.metadata import ModelMetadata


def small_folder(folder: Path, calibrated: int, checked: int) -> Path:
    """`small.onnx`, and its images in `calibration` and `check`."""
    for name, count, seed in (("calibration", calibrated, 0), ("check", checked, 3)):
        (folder / name).mkdir()
        written(folder / name, count, seed)
    labels = tuple(f"class {i}" for i in range(10))
    told = ModelMetadata(labels, PREPROCESS, (), ("small", "0" * 64))
    save_onnx(finish(proto(), told), folder / "small.onnx")
    return folder


@pytest.fixture(scope="module", autouse=True)
def given_costs() -> Iterator[None]:
    """What forms cost is stated, so that nothing depends on what this machine measures."""
    with pytest.MonkeyPatch.context() as patch:
        give_costs(patch, STATIC_FIRST, STATIC_FIRST)
        yield
