"""Keys of the manifest are words on the page, and a figure that looks wrong says what to look at."""

import dataclasses

import pytest

from tests.host.report.toys import facts
from vit_edge import plain
from vit_edge.host.report.page import render
from vit_edge.host.report.spelled import KEYS, spelled
from vit_edge.manifest import Recipe
from vit_edge.verify.words import LARGE_ECE, error_of_confidence


@pytest.mark.parametrize("key", sorted(plain.key_names(Recipe)))
def test_no_key_of_the_recipe_is_shown_raw(key: str) -> None:
    words = spelled(key)
    assert "_" not in words
    assert not {"db", "mb", "sqnr"} & set(words.split()), "units are spelled as people write them"


def test_only_keys_that_there_are_have_words() -> None:
    assert set(KEYS) <= plain.key_names(Recipe)


@pytest.mark.parametrize("name", ["onnx/model_quantized.onnx", "blocks.0.fc1", "onnx_ir"])
def test_names_stay_as_they_are(name: str) -> None:
    assert spelled(name) == name


@pytest.mark.parametrize(("found", "told"), [(None, False), (LARGE_ECE - 0.1, False), (80.0, True)])
def test_a_large_calibration_error_says_what_to_look_at(found: float | None, told: bool) -> None:
    assert ("labels and preprocessing are the model's own" in error_of_confidence(found)) is told


@pytest.mark.parametrize(("found", "told"), [(2.0, False), (80.0, True)])
def test_the_page_comments_on_it(found: float, told: bool) -> None:
    whole = facts()
    evidence = dataclasses.replace(whole.gate.evidence, ece_float=found)
    page = render(dataclasses.replace(whole, gate=dataclasses.replace(whole.gate, evidence=evidence)))
    assert ("points away from how often it is right" in page) is told
