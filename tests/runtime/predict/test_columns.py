"""A classifier of columns: cheap to make, the same answers as one call per image, an error as a row."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vit_edge import BatchClassifier, Classifier, UsageError


@pytest.fixture
def paths(tmp_path: Path, photo: np.ndarray) -> list[str]:
    found = [tmp_path / f"{index}.png" for index in range(4)]
    for index, path in enumerate(found):
        Image.fromarray(np.roll(photo, 5 * index, axis=0)).save(path)
    found[2].write_bytes(b"no image")
    return [str(path) for path in found]


def expected(model: Path, paths: list[str]) -> list[tuple[str, float, int]]:
    classify = Classifier(model, threads=1)
    best = [classify(path, top_k=1)[0] for index, path in enumerate(paths) if index != 2]
    rows = [(each.label, each.score, each.index) for each in best]
    return [*rows[:2], ("", float("nan"), -1), rows[2]]


def check(made: Any, model: Path, paths: list[str]) -> None:
    rows = expected(model, paths)
    assert list(made["label"]) == [row[0] for row in rows]
    np.testing.assert_array_equal(made["score"], [row[1] for row in rows])
    assert list(made["index"]) == [row[2] for row in rows]
    assert [bool(error) for error in made["error"]] == [False, False, True, False]
    assert "is no JPEG, PNG, WebP or BMP image" in made["error"][2]


@pytest.mark.parametrize("dtype", [object, None])
def test_columns_come_back_with_the_answers(data: Path, paths: list[str], dtype: Any) -> None:
    """As Ray hands them: a dict of arrays, of strings or of objects."""
    batch = {"id": np.arange(4), "image": np.array(paths, dtype=dtype)}
    made = BatchClassifier(data / "dynamic.onnx")(batch)
    assert list(made) == ["id", "image", "label", "score", "index", "error"]
    np.testing.assert_array_equal(made["id"], np.arange(4))
    check(made, data / "dynamic.onnx", paths)


def test_a_frame_comes_back_as_a_frame(data: Path, paths: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"file": paths, "id": range(4)}, index=[7, 8, 9, 10])
    one = BatchClassifier(data / "dynamic.onnx", column="file")
    [made] = one.over([frame])
    assert list(made.columns) == ["file", "id", "label", "score", "index", "error"]
    assert list(made.index) == [7, 8, 9, 10]
    check({name: made[name].to_numpy() for name in made.columns}, data / "dynamic.onnx", paths)
    assert "label" not in frame.columns


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes_are_images_too(data: Path, paths: list[str], wrap: Any) -> None:
    cells = np.empty(4, dtype=object)
    cells[:] = [wrap(Path(path).read_bytes()) for path in paths]
    check(BatchClassifier(data / "dynamic.onnx")({"image": cells}), data / "dynamic.onnx", paths)


def test_arrays_are_images_too(data: Path, photo: np.ndarray) -> None:
    made = BatchClassifier(data / "dynamic.onnx")({"image": np.stack([photo, photo])})
    assert made["label"][0] == Classifier(data / "dynamic.onnx", threads=1)(photo)[0].label


def test_rows_say_what_columns_say(data: Path, paths: list[str]) -> None:
    """As Daft wants structs: values of Python's own types, and nothing of the images."""
    made = BatchClassifier(data / "dynamic.onnx").rows(paths)
    assert [list(row) for row in made] == [["label", "score", "index", "error"]] * 4
    assert {type(value) for row in made for value in row.values()} == {str, float, int}
    check({name: [row[name] for row in made] for name in made[0]}, data / "dynamic.onnx", paths)
    assert BatchClassifier(data / "dynamic.onnx").rows([]) == []


def test_an_empty_batch_gives_empty_columns(data: Path) -> None:
    made = BatchClassifier(data / "dynamic.onnx")({"image": np.array([], dtype=object)})
    assert {name: len(values) for name, values in made.items()} == dict.fromkeys(
        ("image", "label", "score", "index", "error"), 0
    )


def test_to_make_one_loads_nothing_and_it_is_pickled_without_its_model(data: Path, paths: list[str]) -> None:
    one = BatchClassifier(data / "absent.onnx")
    with pytest.raises(ValueError, match=r"absent\.onnx does not exist"):
        one({"image": np.array(paths)})
    used = BatchClassifier(data / "dynamic.onnx")
    before = len(pickle.dumps(used))
    used({"image": np.array(paths)})
    assert len(pickle.dumps(used)) == before < 2000


def test_another_process_gives_the_same(data: Path, paths: list[str]) -> None:
    one = BatchClassifier(data / "dynamic.onnx")
    one({"image": np.array(paths)})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        check(pool.apply(one, ({"image": np.array(paths)},)), data / "dynamic.onnx", paths)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"path": np.array(["x"])}, "the batch has no column 'image'; it has path"),
        ({"image": np.array(["x"]), "score": np.array([1])}, "has a column 'score' already; rename it"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(data: Path, batch: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BatchClassifier(data / "dynamic.onnx")(batch)


def test_a_way_to_decode_that_is_none_is_refused_at_once(data: Path) -> None:
    with pytest.raises(UsageError, match="decoding must be one of"):
        BatchClassifier(data / "dynamic.onnx", decoding="quick")
