"""The tool that runs packages in their homes: real runs on the embedded model, its figures, its refusals."""

import json
from pathlib import Path

import pytest

from tests.package.digits import Digits
from tools.check_package.__main__ import HOMES, by_label, closeness, main
from tools.check_package.browser import CHROMIUM
from tools.check_package.modules import onnxruntime_modules, sharp_module, transformers_module
from tools.engines.catalogue import default_cache
from vit_edge.errors import UsageError

CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs


def words(digits: Digits, output: Path, *more: str) -> list[str]:
    return [str(digits.bundle), "--images", str(digits.images / "test"), "-o", str(output), *more]


@pytest.mark.parametrize("home", HOMES)
def test_a_home_answers_as_python_does(digits: Digits, tmp_path: Path, home: str) -> None:
    """Float to 1e-4; INT8 in exact arithmetic to 0.05, as float operators may round a value by a step."""
    if home == "web" and CHROMIUM is None:
        pytest.skip("needs chromium or chrome")
    try:
        onnxruntime_modules(CACHE)
        sharp_module(CACHE)
        transformers_module(CACHE)
    except UsageError as error:
        pytest.skip(str(error))
    output = tmp_path / "record.json"
    given = words(digits, output, "--count", "12", "--home", home, "--cache", str(CACHE))
    assert main(given) == 0
    record = json.loads(output.read_text())
    row = record["homes"][home]
    assert record["images"] == {"folder": "test", "count": 12}
    for part, tolerance in (("float", 1e-4), ("int8 against exact arithmetic", 0.05)):
        assert row[part]["same_label"] == row[part]["images"] == 12
        assert row[part]["largest_probability_difference"] <= tolerance
    assert ("resize_of_12_megapixels_s" in row) is (home == "node")


def test_of_classes_with_one_name_the_likeliest_counts() -> None:
    assert by_label([("crane", 0.5), ("heron", 0.3), ("crane", 0.1)]) == {"crane": 0.5, "heron": 0.3}


def test_closeness_counts_first_labels_and_takes_the_largest_difference() -> None:
    mine = [{"a": 0.6, "b": 0.4}, {"a": 0.51, "b": 0.49}]
    theirs = [{"a": 0.7, "b": 0.3}, {"b": 0.52, "a": 0.48}]
    assert closeness(mine, theirs) == {
        "same_label": 1,
        "images": 2,
        "largest_probability_difference": 0.1,
    }


@pytest.mark.parametrize(
    ("home", "message"),
    [("node", "tools.engines --prepare makes it"), ("web", "tools.engines --prepare makes it")],
)
def test_without_the_packages_of_npm_one_line_says_how_they_are_made(
    digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str], home: str, message: str
) -> None:
    if home == "web" and CHROMIUM is None:
        pytest.skip("needs chromium or chrome")
    output = tmp_path / "record.json"
    given = words(digits, output, "--count", "2", "--home", home, "--cache", str(tmp_path / "none"))
    assert main(given) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("check_package: ")
    assert message in said or "needs node" in said
    assert not output.exists()


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--images", str(tmp_path), "-o", str(tmp_path / "record.json")]) == 2
    assert "check_package: " in capsys.readouterr().err
