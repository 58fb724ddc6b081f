"""The site's tables come from the code and leave nothing out, and its links hold."""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import vit_edge
from tools.site import tables
from tools.site.links import relinked
from vit_edge import errors
from vit_edge.cli.entry import parser
from vit_edge.targets import list_targets

ROOT = Path(__file__).resolve().parents[2]
GENERATORS = ("mkdocs", "material", "mkdocstrings")


def test_every_option_of_every_command_is_listed() -> None:
    page = tables.options()
    action = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    for name, command in action.choices.items():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for each in command._actions:
            assert all(option in section for option in each.option_strings), f"{name} {each.dest}"
    assert "%(default)s" not in page


def test_every_target_and_every_rule_is_listed() -> None:
    assert all(f"| `{name}` |" in tables.targets() for name in list_targets())
    names = {path.stem for path in tables.RULES.glob("*.py") if path.stem != "__init__"}
    assert names
    assert all(f"| `{name}` | " in tables.rules() for name in names)


def test_every_error_is_listed_with_its_sentences() -> None:
    page = tables.errors()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    public = [kind.__name__ for kind in kinds if kind.__module__ == errors.__name__]
    assert all(f"## {name}\n" in page for name in public)
    assert "`{path} is empty; export the model again`" in page


def test_every_public_name_is_in_the_reference() -> None:
    assert [line.removeprefix("## ") for line in tables.api().splitlines() if line.startswith("## ")] == (
        vit_edge.__all__
    )


@pytest.mark.parametrize(
    ("text", "folder", "expected"),
    [
        ("[manual](manual.md#run)", "docs", "[manual](manual.md#run)"),
        ("[manual](docs/manual.md)", "", "[manual](manual.md)"),
        ("[what changed](../CHANGELOG.md)", "docs", "[what changed](changelog.md)"),
        ("[the contract](../vit_edge/host/x.py)", "docs", "the contract (`vit_edge/host/x.py`)"),
        ("[check.c](../examples/golden/check.c)", "docs", "`examples/golden/check.c`"),
        ("[paper](https://arxiv.org/abs/1)", "docs", "[paper](https://arxiv.org/abs/1)"),
        ("[below](#here)", "docs", "[below](#here)"),
        ("a[0](x)", "docs", "a0 (`docs/x`)"),
        ("![chart](images/a.svg)", "docs", "![chart](images/a.svg)"),
        ("![chart](docs/images/a.svg)", "", "![chart](images/a.svg)"),
    ],
)
def test_links_hold_within_the_site(text: str, folder: str, expected: str) -> None:
    assert relinked(text, folder) == expected


@pytest.mark.skipif(
    not all(importlib.util.find_spec(each) for each in GENERATORS),
    reason="needs the docs extra: pip install '.[docs]'",
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in (
        "index.html",
        "overview/index.html",
        "reference/api/index.html",
        "reference/errors/index.html",
    ):
        assert (tmp_path / "site" / page).is_file()
    reference = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert (vit_edge.Classifier.__doc__ or "").split("\n")[0].split("`")[0].strip() in reference
