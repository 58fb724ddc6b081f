"""`vit-edge package`: what it writes, and one line for what it cannot write."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from tests.package.digits import FLOAT, INT8, Digits
from vit_edge import read_bundle
from vit_edge.cli import main
from vit_edge.package import homes

Output = pytest.CaptureFixture[str]


def refused(words: list[str], capsys: Output) -> str:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "internal error" not in err
    return err


def test_what_an_app_needs_to_know_is_in_one_file(digits: Digits, tmp_path: Path) -> None:
    assert main(["package", str(digits.bundle), "--for", "node", "-o", str(tmp_path / "app")]) == 0
    about = json.loads((tmp_path / "app" / "model.json").read_text())
    bundle = read_bundle(digits.bundle)
    assert about["preprocess"] == bundle.manifest.preprocess.to_json()
    assert (about["default"], about["output_kind"]) == ("int8", "single_label_logits")
    assert about["labels"][3] == "three"
    assert about["bundle_sha256"] == bundle.sha256
    for each, name in zip(about["files"], (FLOAT, INT8), strict=True):
        assert each["sha256"] == bundle.manifest.files[name].sha256
        assert (each["input"], each["input_shape"]) == ("pixel_values", [1, 3, 32, 32])
        assert (tmp_path / "app" / each["file"]).read_bytes() == (digits.bundle / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app"]


def test_an_empty_folder_is_filled(digits: Digits, tmp_path: Path) -> None:
    assert main(["package", str(digits.bundle), "--for", "node", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "index.mjs").is_file()


@pytest.mark.parametrize("home", [home.value for home in homes.Home])
def test_a_folder_that_holds_something_is_left_alone(
    digits: Digits, tmp_path: Path, home: str, capsys: Output
) -> None:
    (tmp_path / "mine").write_text("mine")
    words = ["package", str(digits.bundle), "--for", home, "-o", str(tmp_path)]
    assert "exists and is not empty; choose another output" in refused(words, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("bundle", "words", "message"),
    [
        ("absent", ["--for", "node", "-o", "{at}/app"], "absent is no folder"),
        ("{bundle}", ["--for", "phone", "-o", "{at}/app"], "argument --for: 'phone' is none of node, web, c"),
        ("{bundle}", ["--for", "node"], "the following arguments are required: -o/--out"),
        ("{bundle}", ["--for", "node", "-o", "-"], "a folder cannot go to standard output"),
        ("{bundle}", ["--for", "node", "-o", "{at}/no/app"], "name a folder in one that exists"),
        ("{bundle}", ["--for", "node", "-o", "{bundle}/vit_edge.json"], "exists and is no folder"),
        ("{bundle}", ["--for", "web", "-o", "{at}/app", "--modules", "{at}"], "give a node_modules folder"),
    ],
)
def test_a_refusal_is_one_line_and_nothing_is_written(
    digits: Digits, tmp_path: Path, bundle: str, words: list[str], message: str, capsys: Output
) -> None:
    given = [word.format(at=tmp_path, bundle=digits.bundle) for word in [bundle, *words]]
    assert message in refused(["package", *given], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2 is newer than 1"),
        ({"preprocess": None}, "preprocess"),
    ],
)
def test_a_bundle_of_another_version_is_refused(
    digits: Digits, tmp_path: Path, change: dict[str, object], message: str, capsys: Output
) -> None:
    copy = shutil.copytree(digits.bundle, tmp_path / "bundle")
    raw = json.loads((copy / "vit_edge.json").read_text())
    (copy / "vit_edge.json").write_text(json.dumps(raw | change))
    assert message in refused(["package", str(copy), "--for", "node", "-o", str(tmp_path / "app")], capsys)


def test_a_bundle_without_cases_for_other_languages_is_refused(
    digits: Digits, tmp_path: Path, capsys: Output
) -> None:
    copy = shutil.copytree(digits.bundle, tmp_path / "bundle")
    raw = json.loads((copy / "vit_edge.json").read_text())
    del raw["files"]["golden/cases.json"]
    (copy / "vit_edge.json").write_text(json.dumps(raw))
    message = refused(["package", str(copy), "--for", "node", "-o", str(tmp_path / "app")], capsys)
    assert "has no golden/cases.json" in message


@pytest.mark.parametrize("name", [FLOAT, "golden/pixel_values.0.bin"])
def test_a_damaged_file_is_refused(digits: Digits, tmp_path: Path, name: str, capsys: Output) -> None:
    copy = shutil.copytree(digits.bundle, tmp_path / "bundle")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1] + b"x")
    words = ["package", str(copy), "--for", "node", "-o", str(tmp_path / "app")]
    assert "is not the file that vit_edge.json records" in refused(words, capsys)


def test_a_disk_that_is_full_leaves_nothing(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "index.mjs":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    words = ["package", str(digits.bundle), "--for", "node", "-o", str(tmp_path / "app")]
    assert "cannot be written (No space left on device)" in refused(words, capsys)
    assert list(tmp_path.iterdir()) == []
