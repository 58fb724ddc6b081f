"""labels.csv for models of several labels at once and for values."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.dataset import read_images
from vit_edge.spec import OutputKind

LABELS = ("cat", "dog", "bird")


def folder_with(folder: Path, text: str) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "labels.csv").write_text(text)
    return folder


def test_several_labels_are_separated_by_semicolons_and_may_be_none(tmp_path: Path) -> None:
    text = "path,label\na.png,cat; bird\nb.png,\nc.png,1\n"
    images = read_images(folder_with(tmp_path, text), LABELS, kind=OutputKind.MULTI_LABEL)
    assert images.targets is not None
    assert images.targets.tolist() == [[True, False, True], [False, False, False], [False, True, False]]
    assert len(images.limited(2)) == 2


@pytest.mark.parametrize("column", ["target", "label"])
def test_values_are_read_as_numbers(column: str, tmp_path: Path) -> None:
    text = f"path,{column}\na.png,1.5\nb.png,-2e3\nc.png,0\n"
    images = read_images(folder_with(tmp_path, text), ("age",), kind=OutputKind.REGRESSION)
    assert images.targets is not None
    assert np.array_equal(images.targets, [[1.5], [-2000.0], [0.0]])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (OutputKind.MULTI_LABEL, "path,label\na.png,cat;cow\n", "'cow'.* neither the name"),
        (OutputKind.SINGLE_LABEL, "path,label\na.png,cat;bird\n", "neither the name"),
        (OutputKind.SINGLE_LABEL, "path,label\na.png,\n", "has no label"),
        (OutputKind.REGRESSION, "path,target\na.png,old\n", "no finite number"),
        (OutputKind.REGRESSION, "path,target\na.png,nan\n", "no finite number"),
        (OutputKind.REGRESSION, "path,target\na.png,\n", "has no target"),
        (OutputKind.REGRESSION, "path,target\na.png,1\nb.png,1;2\n", "1 values for one image and 2"),
        (OutputKind.REGRESSION, "path,name\na.png,1\n", "no column target"),
        (OutputKind.MULTI_LABEL, "path,target\na.png,cat\n", "no column label"),
    ],
)
def test_cells_that_mean_nothing_are_refused(
    kind: OutputKind, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message):
        read_images(folder_with(tmp_path, text), LABELS, kind=kind)


@pytest.mark.parametrize("kind", [OutputKind.MULTI_LABEL, OutputKind.REGRESSION])
def test_a_folder_per_class_is_refused_where_it_cannot_tell(kind: OutputKind, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "a.png")
    with pytest.raises(DatasetError, match=r"labels\.csv"):
        read_images(tmp_path, LABELS, kind=kind)
