"""The doctor on a published ViT-Tiny, where the data is at hand: no false alarm, each fault by its name."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vit_edge.diagnosis import Code, Severity
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.doctor.examine import DoctorSettings, examine
from vit_edge.runtime.evaluate.dataset import ImageSet, read_images
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import SessionSettings

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
IMAGES = 40
SETTINGS = DoctorSettings(SessionSettings("cpu", threads=1))

pytestmark = pytest.mark.skipif(
    not (DATA / "vit_tiny_imagenet").is_dir(),
    reason="needs ../shared/data: ViT-Tiny weights and ImageNet images",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_model(resolve(str(DATA / "vit_tiny_imagenet" / "hf"), SourceOptions()), path)
    return read_model(path)


@pytest.fixture(scope="module")
def photos(tiny: ModelFile) -> ImageSet:
    return read_images(DATA / "nips17_eval", tiny.labels).limited(IMAGES)


def test_a_sound_model_gives_no_false_alarm(tiny: ModelFile, photos: ImageSet) -> None:
    found = examine(tiny, photos, SETTINGS)
    # ImageNet has two cranes, which is worth knowing and no fault
    assert [(each.code, each.severity) for each in found.findings] == [(Code.DUPLICATE_LABELS, Severity.NOTE)]
    assert "'crane' is class 134 and 517" in found.findings[0].what


def test_values_of_0_to_255_are_named(tiny: ModelFile, photos: ImageSet) -> None:
    assert tiny.preprocess is not None
    spec = dataclasses.replace(tiny.preprocess, mean=(0.5 / 255,) * 3, std=(0.5 / 255,) * 3)
    found = examine(dataclasses.replace(tiny, preprocess=spec), photos, SETTINGS)
    errors = {each.code for each in found.findings if each.severity is Severity.ERROR}
    assert Code.NORMALISATION in errors


def test_labels_in_reverse_are_named(tiny: ModelFile, photos: ImageSet) -> None:
    assert photos.targets is not None
    wrong = dataclasses.replace(photos, targets=999 - np.asarray(photos.targets))
    found = examine(tiny, wrong, SETTINGS)
    finding = next(each for each in found.findings if each.code is Code.LABEL_ORDER)
    assert "reversed" in finding.what
    assert finding.order == tuple(range(1000))[::-1]
