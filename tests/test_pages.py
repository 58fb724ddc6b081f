"""The pages tell the truth about what they link to, and about the commands they tell to type."""

import dataclasses
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, Command, commands, headings, links
from tools.manifest_page import PAGE, page, records
from vit_edge.embedding_report import CriterionFigures, EmbeddingReport, Fidelity
from vit_edge.gate_report import LabelFigures, MapMeasure, ValueFigures
from vit_edge.manifest import EmbedderRecord, IntegerGraph, Manifest, OperatorTime
from vit_edge.source_parity import Difference
from vit_edge.spec import EmbeddingTolerance, MapLimits
from vit_edge.truth_report import ClassScore, TruthScore

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        there = page if not path else (page.parent / path).resolve()
        assert there.is_relative_to(ROOT), f"{link} leads out of the project"
        assert there.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in headings(there), f"{link}: no such heading"


def test_the_page_on_the_manifests_keys_is_what_its_records_say() -> None:
    assert PAGE.read_text() == page(), "run: python -m tools.manifest_page"


def test_every_key_of_the_manifest_is_explained() -> None:
    """Those of the parts that few bundles have stand on the page of all keys alone."""
    text = (ROOT / "docs" / "bundle-format.md").read_text()
    explained = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", text))))
    rare = {LabelFigures, ValueFigures, IntegerGraph, OperatorTime, Difference}
    rare |= {Fidelity, EmbedderRecord, EmbeddingReport, CriterionFigures, EmbeddingTolerance}
    rare |= {MapLimits, MapMeasure, TruthScore, ClassScore}
    keys = {
        field.name
        for record in records(Manifest)
        if record not in rare
        for field in dataclasses.fields(record)
    }
    assert keys - explained == {"method"}  # a record whose own keys stand in its place


def test_every_page_can_be_found_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    assert listed == {page for page in PAGES if page.parent == index.parent} - {index}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").iterdir()), ids=lambda path: path.name)
def test_every_example_is_listed(path: Path) -> None:
    assert path.name == "README.md" or path.name in links(ROOT / "examples" / "README.md")


@pytest.mark.parametrize("command", commands("pip install"), ids=str)
def test_every_extra_that_is_told_to_be_installed_exists(command: Command) -> None:
    for word in command.words[2:]:
        extras = re.search(r"\[(.+)\]", word)
        assert extras is None or set(extras[1].split(",")) <= set(EXTRAS)


@pytest.mark.parametrize("command", commands("python -m"), ids=str)
def test_every_tool_that_is_told_to_be_run_exists_with_its_options(command: Command) -> None:
    module, *words = command.words[2:]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    files = origin.parent.rglob("*.py") if origin.name == "__init__.py" else [origin]
    source = "\n".join(path.read_text() for path in files)
    for option in (word for word in words if word.startswith("-")):
        assert f'"{option}"' in source, f"{module} has no {option}"


@pytest.mark.parametrize("command", commands("bash"), ids=str)
def test_every_script_that_is_told_to_be_run_exists(command: Command) -> None:
    assert (ROOT / command.words[1]).is_file()


def test_commands_are_found_in_blocks_in_sentences_and_indented() -> None:
    pages = {command.page for command in commands("vit-edge")}
    assert {"README.md", "docs/manual.md", "docs/parity.md", "docs/evidence.md"} <= pages
    assert Command("README.md", ("vit-edge", "classify", "bundle/", "image.jpg")) in commands("vit-edge")
