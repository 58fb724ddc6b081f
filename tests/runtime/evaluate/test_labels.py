"""Folder names and label cells find the model's classes, or say why not."""

from pathlib import Path

import pytest

from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.labels import LabelTable, normalized, read_class_ids

LABELS = (
    "tench, Tinca tinca",
    "goldfish",
    "great white shark, white shark",
    "crane, bird",
    "Crane, machine",
    "Égret",
)
IDS = ("n01440764", "n01443537", "n01484850", "n02012849", "n03126707", "n02009912")
HERE = Path("data")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["goldfish", "tench, Tinca tinca"], [1, 0]),
        (["Goldfish", "Great_White_Shark, white shark"], [1, 2]),
        (["tench", "great-white-shark"], [0, 2]),
        (["égret"], [5]),
        (["E\u0301gret"], [5]),  # the accent apart, as one file system stores it
        (["Crane, machine"], [4]),
        (["n01443537", "n02009912"], [1, 5]),
        (["0", "5"], [0, 5]),
        (["000", "003"], [0, 3]),
    ],
)
def test_folders_match_by_name_id_or_index(folders: list[str], expected: list[int]) -> None:
    found = LabelTable(LABELS, IDS).match_folders(folders, HERE)
    assert [found[name] for name in folders] == expected


def test_a_label_that_reads_so_to_the_letter_goes_before_looser_matches() -> None:
    assert LabelTable(("Crane", "crane", "crane, machine")).match_folders(["crane"], HERE) == {"crane": 1}


@pytest.mark.parametrize("name", ["crane", "CRANE"])
def test_equal_labels_are_never_guessed_between(name: str) -> None:
    with pytest.raises(DatasetError, match="fits more than one of the model's labels; name the folders by"):
        LabelTable(("crane", "owl", "crane")).match_folders([name], HERE)


def test_labels_that_are_ids_themselves_need_no_file() -> None:
    assert LabelTable(IDS).match_folders(["n01443537"], HERE) == {"n01443537": 1}


def test_digits_are_label_names_before_they_are_indices() -> None:
    assert LabelTable(("3", "1", "2")).match_folders(["1", "3"], HERE) == {"1": 1, "3": 0}


def test_a_model_without_labels_takes_indices() -> None:
    assert LabelTable(None).match_folders(["7", "12"], HERE) == {"7": 7, "12": 12}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ["goldfish", "cat"],
            "1 of 2 folders in data match none of the model's 6 classes as label names: 'cat'",
        ),
        (list("abcdefg"), "7 of 7 folders .* 'a', 'b', 'c', 'd', 'e', ...; rename them"),
        (["CRANE"], "'CRANE' in data fits more than one of the model's labels"),
        (["0", "6"], "as class indices: '6'"),
        (["0", "-1"], "'-1'"),
        (["0", "1", "goldfish"], "1 of 3 folders .* as class indices: 'goldfish'"),
        (["goldfish", "Goldfish"], "folders 'Goldfish' and 'goldfish' in data both mean class 1; merge them"),
        (["0", "00"], "both mean class 0"),
        (["99999999999999999999"], "match none"),
        (["٣"], "match none"),
    ],
)
def test_folders_that_match_no_class_or_not_one_are_refused(folders: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        LabelTable(LABELS, IDS).match_folders(folders, HERE)


def test_a_model_without_labels_cannot_match_names() -> None:
    with pytest.raises(DatasetError, match="the model carries no labels; name them by class index"):
        LabelTable(None).match_folders(["cat", "dog"], HERE)


@pytest.mark.parametrize(
    ("cell", "index"),
    [
        ("goldfish", 1),
        ("Great White Shark", 2),
        ("n02009912", 5),
        ("4", 4),
        ("6", None),
        ("", None),
        ("x", None),
    ],
)
def test_a_label_cell_is_a_name_an_id_or_an_index(cell: str, index: int | None) -> None:
    assert LabelTable(LABELS, IDS).cell_reader()(cell) == index


def test_as_many_ids_as_labels_are_required() -> None:
    with pytest.raises(DatasetError, match="6 labels but the class id file lists 2"):
        LabelTable(LABELS, IDS[:2])


def test_normalisation_ignores_case_and_separators() -> None:
    assert normalized(" Great_White--SHARK ") == "great white shark"


def test_a_class_id_file_is_read_line_by_line(tmp_path: Path) -> None:
    source = tmp_path / "classes.txt"
    source.write_text(
        "\ufeffn01440764 tench, Tinca tinca\nn01443537\tgoldfish\r\nn01484850\n", encoding="utf-8"
    )
    assert read_class_ids(source) == IDS[:3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"n1 a\n\nn2 b\n", "line 2 of the class id file .* is empty"),
        (b"n1 a\nn2 b\nn1 c\n", "lines 1 and 3 .* both hold 'n1'"),
        (b"\xff\xfe\x00", "give a UTF-8 text file"),
    ],
)
def test_a_malformed_class_id_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "classes.txt"
    source.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_class_ids(source)


def test_a_missing_class_id_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot read the class id file"):
        read_class_ids(tmp_path / "none.txt")
