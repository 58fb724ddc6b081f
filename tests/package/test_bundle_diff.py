"""`vit-edge bundle diff`: every kind of change is named, the same bundle has none."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.manifests import accuracy
from tests.package.digits import FLOAT, INT8, Digits
from vit_edge import Classifier, read_bundle
from vit_edge.bundle import FileEntry, write_bundle
from vit_edge.cli import main
from vit_edge.manifest import LayerRecord, Role, SourceRecord
from vit_edge.spec import Verdict

Output = pytest.CaptureFixture[str]


def changed(digits: Digits, target: Path, drop: str | None = None, **fields: Any) -> Path:
    """A copy of the bundle with other fields in its manifest, and perhaps without a file."""
    bundle = read_bundle(digits.bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.files if name != drop}
    entries: Mapping[str, FileEntry] = {name: bundle.manifest.files[name] for name in files}
    write_bundle(target, files, dataclasses.replace(bundle.manifest, files=entries, **fields))
    return target


def found(before: Path, after: Path, tmp_path: Path) -> list[dict[str, str]]:
    status = main(["bundle", "diff", str(before), str(after), "--json", str(tmp_path / "diff.json")])
    made: list[dict[str, str]] = json.loads((tmp_path / "diff.json").read_text())
    assert status == (1 if made else 0)
    return made


def test_a_bundle_does_not_differ_from_itself(digits: Digits, tmp_path: Path, capsys: Output) -> None:
    assert found(digits.bundle, digits.bundle, tmp_path) == []
    assert capsys.readouterr().out == "nothing differs\n"


def test_another_default_model_is_named(digits: Digits, tmp_path: Path, capsys: Output) -> None:
    made = found(digits.bundle, changed(digits, tmp_path / "other", default_model=FLOAT), tmp_path)
    assert made[0] == {"kind": "default model", "what": "path", "before": INT8, "after": FLOAT}
    assert {each["kind"] for each in made[1:]} <= {"answer"}
    assert "default model  path" in capsys.readouterr().out


def test_other_answers_to_the_golden_images_are_shown_as_the_classifiers_give_them(
    digits: Digits, tmp_path: Path, capsys: Output
) -> None:
    """A model that takes another scale of numbers, as its file says."""
    bundle = read_bundle(digits.bundle)
    path = tmp_path / "model.onnx"
    path.write_bytes(bundle.read(INT8))
    model = onnx.load(path)
    [recipe] = [entry for entry in model.metadata_props if entry.key == "vit_edge.preprocess"]
    recipe.value = json.dumps(json.loads(recipe.value) | {"std": [5.0, 5.0, 5.0]})
    files = {name: bundle.read(name) for name in bundle.manifest.files} | {INT8: model.SerializeToString()}
    entries = {**bundle.manifest.files, INT8: FileEntry.of(files[INT8], Role.QUANTIZED)}
    other = tmp_path / "other"
    write_bundle(other, files, dataclasses.replace(bundle.manifest, files=entries))
    [file, *answers] = found(digits.bundle, other, tmp_path)
    assert (file["kind"], file["what"]) == ("file", INT8)
    assert [each["what"] for each in answers] == [f"golden/{index}.png" for index in range(3)]
    for each in answers:
        for place, shown in ((digits.bundle, each["before"]), (other, each["after"])):
            best = Classifier(place)(place / each["what"], top_k=1)[0]
            assert shown == f"{best.label} {best.score:.3f}"
    capsys.readouterr()
    assert main(["package", str(other), "--for", "node", "-o", str(tmp_path / "app")]) == 2
    assert "do not say the same of preprocessing and output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"source": SourceRecord("letters", "1" * 64)},
            [("source", "name", "digits", "letters"), ("source", "weights", "0" * 64, "1" * 64)],
        ),
        ({"tools": {"onnx": "9"}}, [("tools", "onnx", "none", "9")]),
        (
            {"layers": (LayerRecord("blocks.0.qkv", "int8"),)},
            [("decision", "blocks.0.qkv", "none", "int8")],
        ),
        (
            {"accuracy": accuracy(verdict=Verdict.PASS)},
            [
                ("verdict", f"{INT8} verdict", "none", "PASS"),
                ("verdict", f"{INT8} agreement", "none", "100.00 %"),
            ],
        ),
    ],
    ids=["source", "tools", "decisions", "verdicts"],
)
def test_each_kind_of_change_is_named(
    digits: Digits, tmp_path: Path, fields: dict[str, Any], expected: list[tuple[str, ...]]
) -> None:
    made = found(digits.bundle, changed(digits, tmp_path / "other", **fields), tmp_path)
    assert [(each["kind"], each["what"], each["before"], each["after"]) for each in made] == expected


def test_a_file_that_is_gone_is_named_with_its_size(digits: Digits, tmp_path: Path) -> None:
    other = changed(digits, tmp_path / "other", drop=FLOAT)
    entry = read_bundle(digits.bundle).manifest.files[FLOAT]
    [made] = [each for each in found(digits.bundle, other, tmp_path) if each["kind"] == "file"]
    assert made["before"] == f"{entry.size / 1e6:.2f} MB ({entry.sha256[:8]})"
    assert (made["what"], made["after"]) == (FLOAT, "none")


def test_of_many_changes_of_one_kind_the_first_are_shown(
    digits: Digits, tmp_path: Path, capsys: Output
) -> None:
    layers = tuple(LayerRecord(f"blocks.{index}.qkv", "int8") for index in range(20))
    assert len(found(digits.bundle, changed(digits, tmp_path / "other", layers=layers), tmp_path)) == 20
    out = capsys.readouterr().out
    assert "blocks.11.qkv" in out
    assert "blocks.12.qkv" not in out
    assert "decision: 8 more" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diff", "{bundle}", "absent"], "absent is no folder"),
        (["diff", "{bundle}"], "the following arguments are required: AFTER"),
        (["join", "{bundle}", "{bundle}"], "invalid choice: 'join'"),
        (["diff", "{bundle}", "{bundle}", "--json", "{at}/no/x.json"], "name a file in a folder that exists"),
    ],
)
def test_a_refusal_is_one_line(
    digits: Digits, tmp_path: Path, words: list[str], message: str, capsys: Output
) -> None:
    assert main(["bundle", *(word.format(bundle=digits.bundle, at=tmp_path) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_a_damaged_bundle_is_refused(digits: Digits, tmp_path: Path, capsys: Output) -> None:
    other = changed(digits, tmp_path / "other")
    (other / INT8).write_bytes((other / INT8).read_bytes()[:-1] + b"x")
    assert main(["bundle", "diff", str(digits.bundle), str(other)]) == 2
    assert "is not the file that vit_edge.json records" in capsys.readouterr().err
