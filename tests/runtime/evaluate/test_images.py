"""Folders of images in every form that is read, and in the forms that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.dataset import ImageSet, list_images, read_images
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
LABELS = ("cat", "dog", "owl")


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image, as far as listing goes")
    return root


def names_of(images: ImageSet, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in images.paths]


def targets_of(images: ImageSet) -> list[int]:
    assert images.targets is not None
    return [int(target) for target in images.targets]


def test_one_folder_per_class_is_labelled_and_sorted_by_path(tmp_path: Path) -> None:
    folder_of(
        tmp_path, "owl/2.PNG", "cat/b.jpg", "cat/a.JPEG", "cat/deep/er/c.webp", "dog/1.bmp", "dog/note.txt"
    )
    images = read_images(tmp_path, LABELS)
    assert names_of(images, tmp_path) == [
        "cat/a.JPEG",
        "cat/b.jpg",
        "cat/deep/er/c.webp",
        "dog/1.bmp",
        "owl/2.PNG",
    ]
    assert targets_of(images) == [0, 0, 0, 1, 2]
    assert images.name == tmp_path.name


def test_a_format_that_is_allowed_is_listed_and_read_so(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/a.tif", "cat/b.TIFF", "dog/c.gif", "dog/d.png")
    limits = DecodeLimits(formats=(ImageFormat.TIFF, ImageFormat.GIF))
    for images in (read_images(tmp_path, LABELS, limits=limits), list_images(tmp_path, limits)):
        assert names_of(images, tmp_path) == ["cat/a.tif", "cat/b.TIFF", "dog/c.gif"]
        assert images.limits is limits
        assert images.limited(2).limits is limits
    assert names_of(list_images(tmp_path), tmp_path) == ["dog/d.png"]


def test_a_folder_without_a_listed_format_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.tif")
    with pytest.raises(DatasetError, match=r"no image \(\.bmp .*allow their format"):
        list_images(tmp_path)


def test_hidden_files_and_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/a.jpg", "cat/._a.jpg", ".cache/x.jpg", "logs/run.txt", "README.md")
    assert names_of(read_images(tmp_path, LABELS), tmp_path) == ["cat/a.jpg"]


def test_a_class_folder_may_be_a_link(tmp_path: Path) -> None:
    folder_of(tmp_path, "store/a.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "store", target_is_directory=True)
    assert targets_of(read_images(tmp_path / "set", LABELS)) == [1]


def test_images_without_sub_folders_are_unlabelled(tmp_path: Path) -> None:
    images = read_images(folder_of(tmp_path, "b.png", "a.jpg", "notes.txt"), LABELS)
    assert (names_of(images, tmp_path), images.targets) == (["a.jpg", "b.png"], None)


def test_a_label_file_wins_over_folder_names(tmp_path: Path) -> None:
    folder_of(tmp_path, "n02/x.png", "n01/y.png", "unlisted.png")
    (tmp_path / "labels.csv").write_text("\ufeffpath,label,note\nn02/x.png,2,\n./n01/y.png,Dog,seen\n")
    images = read_images(tmp_path, LABELS)
    assert names_of(images, tmp_path) == ["n01/y.png", "n02/x.png"]
    assert targets_of(images) == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column label or path"),
        ("file,label\na.png,0\n", "has no column path; its first line must be path,label"),
        ("path\na.png\n", "has no column label"),
        ("path,label\n", "lists no image"),
        (
            "path,label\na.png,3\n",
            r"line 2 of .*labels.csv has label '3', which is neither .* index \(0 to 2\)",
        ),
        ("path,label\na.png,-1\n", "has label '-1'"),
        ("path,label\na.png,1.0\n", "has label '1.0'"),
        ("path,label\na.png,cow\n", "has label 'cow'"),
        ("path,label\na.png,\n", "has no label"),
        ("path,label\na.png\n", "has no label"),
        ("path,label\n,1\n", "has no path"),
        ("path,label\nb.png,1\n", "lists 'b.png', which is not a file"),
        ("path,label\na.png,1\n./a.png,1\n", "line 3 of .* lists a.png a second time"),
        ("path,label\n../a.png,1\n", "leads out of the folder: '../a.png'"),
        ("path,label\nx/../../a.png,1\n", "leads out of the folder"),
        ("path,label\n/etc/passwd,1\n", "leads out of the folder"),
        ("path,label\na\0.png,1\n", "is not a file|cannot read"),
        ('path,label\n"a.png,1\n', "cannot read .*labels.csv"),
    ],
)
def test_a_malformed_label_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    folder_of(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_images(tmp_path, LABELS)


def test_a_label_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("path,label\né.png,0\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="give a UTF-8 file"):
        read_images(tmp_path, LABELS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no image"),
        (("cat/notes.txt",), "holds no image"),
        (("a.jpg", "cat/b.jpg"), r"holds both images \(a.jpg\) and folders of images \(cat\)"),
        (("cow/a.jpg", "cat/b.jpg"), "1 of 2 folders .* 'cow'"),
    ],
)
def test_a_folder_that_says_nothing_clear_is_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read_images(folder_of(tmp_path, *names), LABELS)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jpg")
    with pytest.raises(DatasetError, match="does not exist; give a folder"):
        read_images(tmp_path / "none")
    with pytest.raises(DatasetError, match="is not a folder"):
        read_images(tmp_path / "a.jpg")


def test_listing_takes_every_image_below_whatever_the_folders_are_called(tmp_path: Path) -> None:
    images = list_images(folder_of(tmp_path, "x/b.jpg", "a.png", "y/z/c.webp", "y/readme.md"))
    assert (names_of(images, tmp_path), images.targets) == (["a.png", "x/b.jpg", "y/z/c.webp"], None)


def test_listing_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no image"):
        list_images(tmp_path)


def numbered(targets: list[int] | None, n: int) -> ImageSet:
    paths = tuple(Path(f"{index:04}.png") for index in range(n))
    return ImageSet("numbered", paths, None if targets is None else np.array(targets, np.int64))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 90), st.integers(0, 5))
def test_a_limited_set_keeps_each_class_its_share(targets: list[int], limit: int, seed: int) -> None:
    images = numbered(targets, len(targets))
    few = images.limited(limit, seed)
    assert len(few) == len(set(few.paths)) == min(limit, len(images))
    assert list(few.paths) == sorted(few.paths)
    assert targets_of(few) == [targets[int(path.stem)] for path in few.paths]
    for label in set(targets):
        share = targets.count(label) * len(few) / len(images)
        assert abs(targets_of(few).count(label) - share) < 1 + 1e-9


def test_a_limited_set_depends_on_the_seed_alone() -> None:
    images = numbered([index % 7 for index in range(500)], 500)
    assert images.limited(50, 1).paths == images.limited(50, 1).paths
    assert images.limited(50, 1).paths != images.limited(50, 2).paths


def test_an_unlabelled_limited_set_is_spread_over_the_folder() -> None:
    chosen = [int(path.stem) for path in numbered(None, 1000).limited(10).paths]
    assert [index // 100 for index in chosen] == list(range(10))


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(DatasetError, match="take at least one"):
        numbered(None, 3).limited(limit)


def test_targets_and_paths_must_pair_up_and_cannot_be_written() -> None:
    with pytest.raises(DatasetError, match="3 images"):
        numbered([0, 1], 3)
    images = numbered([0, 1], 2)
    assert images.targets is not None
    with pytest.raises(ValueError, match="read-only"):
        images.targets[0] = 1


@pytest.mark.skipif(not DATA.is_dir(), reason="the evaluation images are not beside the repository")
def test_imagenet_folders_agree_with_their_label_file(tmp_path: Path) -> None:
    id2label = json.loads((DATA / "vit_tiny_imagenet/hf/config.json").read_text())["id2label"]
    labels = [id2label[str(index)] for index in range(1000)]
    by_file = read_images(DATA / "nips17_eval", labels)
    for folder in (DATA / "nips17_eval").iterdir():
        if folder.is_dir():
            (tmp_path / folder.name).symlink_to(folder, target_is_directory=True)
    by_id = read_images(tmp_path, labels, read_class_ids(DATA / "imagenet_classes.txt"))
    assert targets_of(by_file) == targets_of(by_id)
    assert len(by_file) == 500
    with pytest.raises(DatasetError, match=r"289 of 289 folders .* give a file of class ids"):
        read_images(tmp_path, labels)
