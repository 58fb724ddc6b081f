"""What `build` finds in passing, and where it says so."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.doctor.damage import canonical, head_of, spec_of, table_of, written
from tests.host.report.toys import facts
from tools.digits import LABELS
from vit_edge import plain
from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.host.doctor.brief import inner_findings, outer_findings
from vit_edge.host.report.page import render
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.manifest import FileEntry, Manifest, Role, SourceRecord
from vit_edge.runtime.evaluate.answers import Subject, evaluate
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.session.session import Session, SessionSettings

FOUND = Finding(
    Code.LABEL_ORDER,
    Severity.ERROR,
    "the labels are in another order than the model's answers, <reversed>",
    "pass --labels FILE",
    (Figure("top-1 as stated", 9.5),),
    (1, 0),
)


def test_a_sound_model_has_no_findings(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], images: ImageSet, tmp_path: Path
) -> None:
    file = written(sound, tmp_path / "m.onnx")
    (logits,) = evaluate([Subject(Session(file, SessionSettings("cpu", threads=1)), spec_of(sound))], images)
    assert outer_findings(file, logits, images) == ()
    assert inner_findings(canonical(sound), spec_of(sound), digits[0][:3]) == ()


def test_broken_models_have_theirs(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], images: ImageSet, tmp_path: Path
) -> None:
    mixed_up = head_of(lambda rows: np.roll(rows, 1, axis=0))
    file = dataclasses.replace(written(sound, tmp_path / "m.onnx", mixed_up), labels=("a", "A", *LABELS[2:]))
    (logits,) = evaluate([Subject(Session(file, SessionSettings("cpu", threads=1)), spec_of(sound))], images)
    codes = {each.code for each in outer_findings(file, logits, images)}
    assert {Code.DUPLICATE_LABELS, Code.GUESSING} <= codes
    order = np.random.default_rng(3).permutation(16)
    shuffled = canonical(sound, table_of(lambda table: table[order]))
    found = inner_findings(shuffled, spec_of(sound), digits[0][:3])
    assert [each.code for each in found] == [Code.POSITIONS_SHUFFLED]


def test_a_graph_that_is_no_vit_is_not_looked_into(sound: onnx.ModelProto) -> None:
    foreign = Canonical("net", canonical(sound).model, (), None, "no ViT")
    assert inner_findings(foreign, spec_of(sound), np.zeros((2, 32, 32, 3), np.uint8)) == ()


def test_the_manifest_keeps_findings_and_leaves_the_key_out_where_there_is_none(
    sound: onnx.ModelProto,
) -> None:
    manifest = Manifest(
        files={"onnx/model.onnx": FileEntry.of(b"x", Role.FLOAT)},
        default_model="onnx/model.onnx",
        preprocess=spec_of(sound),
        source=SourceRecord("digits", "0" * 64),
        tools={},
        findings=(FOUND,),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert "findings" not in dataclasses.replace(manifest, findings=()).to_json()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("code", "gremlins", "code must be one of normalisation, "),
        ("severity", "fatal", "severity must be one of error, warning, note"),
        ("evidence", [{"name": "x", "value": "much"}], "value must be a finite number"),
        ("order", [0, -1], "order must be an integer"),
    ],
)
def test_a_malformed_finding_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plain.read(Finding, plain.of(FOUND) | {key: value}, "a finding")


def test_the_report_has_a_section_on_findings_only_where_there_are_any() -> None:
    page = render(dataclasses.replace(facts(), findings=(FOUND,)))
    assert "About the model itself" in page
    assert "another order than the model&#39;s answers, &lt;reversed&gt;" in page
    assert "About the model itself" not in render(facts())
