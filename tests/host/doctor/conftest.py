"""The embedded model and a few of its test images, made once."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tools.digits import LABELS, split
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import ImageSet, read_images

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 60


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("sound") / "digits.onnx"
    export_model(resolve(str(ROOT / "models" / "digits_vit"), SourceOptions()), path)
    return onnx.load(path)


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 32, 32, 3) and labels (N,), spread over the classes."""
    part = split()["test"]
    order = np.argsort(part.labels, kind="stable")[:: len(part.labels) // IMAGES][:IMAGES]
    return part.pixels[order], part.labels[order]


def in_folders(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> ImageSet:
    for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / LABELS[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / LABELS[label] / f"{place}.png")
    return read_images(folder, LABELS)


@pytest.fixture(scope="session")
def images(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return in_folders(tmp_path_factory.mktemp("digits"), *digits)
