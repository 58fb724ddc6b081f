"""Before minutes of work `build` says where no model could pass, and says nothing where one could."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest

from tests.host.output_kinds import folder_of
from tests.host.pictures import smooth_folders
from vit_edge.host.bundling import build
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.spec import OutputKind, Tolerance


class WorkBeganError(Exception):
    """Instead of the first step."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("few")
    smooth_folders(made, {"calibration": 8, "check": 24})
    folder_of(made / "source", 3, "multi_label_classification")
    return made


@functools.cache
def source_of(folder: Path) -> Source:
    return resolve(str(folder / "source"), SourceOptions())


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: OutputKind, **settings: Any) -> list[str]:
    """What is said before the first step, which is then left out."""

    def begin(*_: object) -> None:
        raise WorkBeganError

    monkeypatch.setattr(build, "convert", begin)
    notes: list[str] = []
    source = dataclasses.replace(source_of(folder), output=kind)
    given = BuildSettings(folder / "calibration", folder / "check", **settings)
    with pytest.raises(WorkBeganError):
        build.build_bundle(source, given, folder / "bundle", note=notes.append)
    return notes


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (OutputKind.MULTI_LABEL, {}, "prove no PASS by --max-changed.*: it takes 122 at the least"),
        (OutputKind.MAP, {}, "it takes 122 at the least; give more with --data"),
        (OutputKind.SINGLE_LABEL, {"tolerance": Tolerance(max_changed=1.0)}, "it takes 368 at the least"),
        (OutputKind.REGRESSION, {}, "prove no PASS by --max-changed"),
        (OutputKind.EMBEDDING, {}, "prove no PASS by --min-cosine-tail or another limit.*: it takes"),
        (OutputKind.MAP, {"tolerance": Tolerance(max_changed=0.0001)}, "not even a million are enough"),
    ],
)
def test_too_few_images_for_any_model_are_told_of_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: OutputKind, settings: dict[str, Any], says: str
) -> None:
    (line,) = told(folder, monkeypatch, kind, **settings)
    assert line.startswith("24 check images")
    assert re.search(says, line)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (OutputKind.MULTI_LABEL, {"tolerance": Tolerance(max_changed=20.0)}),
        (OutputKind.MAP, {"tolerance": Tolerance(max_changed=20.0)}),
    ],
)
def test_where_a_model_could_pass_nothing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: OutputKind, settings: dict[str, Any]
) -> None:
    assert told(folder, monkeypatch, kind, **settings) == []
