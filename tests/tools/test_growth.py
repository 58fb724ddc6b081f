"""The page of growth: what was measured, as tables and charts."""

import json
from typing import Any

import pytest

from tools.growth import (
    BEGIN,
    PAGE,
    RESULTS,
    build_table,
    drawn,
    latency_table,
    of_one_image,
    of_one_shape,
    page,
)
from tools.written_page import END

TIMED = {
    "shape": "tiny",
    "image_size": 224,
    "precision": "float",
    "batch": 1,
    "threads": 1,
    "giga_multiply_adds": 1.25,
    "min_ms": 20.0,
    "median_ms": 21.0,
    "ms_per_giga": 16.0,
    "memory_mb": 80.0,
}
BUILT = {
    "shape": "tiny",
    "image_size": 224,
    "weights_millions": 5.0,
    "calibration_images": 64,
    "seconds": 50.0,
    "processor_seconds": 60.0,
    "peak_mb": None,
    "float_mb": 23.0,
    "int8_mb": 6.0,
}
RECORD: dict[str, Any] = {
    "machine": {"cpu": "A processor", "cores": 2, "flags": ["avx2"], "onnxruntime": "1.32.0"},
    "builds": [BUILT],
    "latency": [TIMED, TIMED | {"precision": "int8", "min_ms": 10.0, "memory_mb": None}],
}


def test_int8_stands_beside_the_float_file_of_the_same_case() -> None:
    *_, first, second = latency_table(RECORD["latency"]).splitlines()
    assert first == "| tiny | 224 | float | 1 | 1 | 1.25 | 20.0 | 16.00 | 1.00 | 80 MB |"
    assert second == "| tiny | 224 | int8 | 1 | 1 | 1.25 | 10.0 | 16.00 | 0.50 |  |"


def test_a_file_without_its_float_file_has_no_ratio() -> None:
    other = RECORD["latency"][1] | {"batch": 8}
    assert "|  |  |" in latency_table([TIMED, other]).splitlines()[-1]


def test_a_build_without_known_memory_is_a_line_all_the_same() -> None:
    assert build_table([BUILT]).splitlines()[-1] == "| tiny | 224 | 5.0 | 60 | 12.0 |  | 23.0 to 6.0 MB |"


@pytest.mark.parametrize("text", ["no marks", f"{BEGIN}{BEGIN}{END}", BEGIN])
def test_a_page_without_both_marks_once_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        page(text, RECORD)


def test_charts_tell_their_figures_in_words() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, which draws")
    charts = drawn(RECORD)
    assert "tiny at 224 pixels, int8: 10.0 ms" in charts["growth-latency.svg"]
    assert "5.0 million weights: 60 s" in charts["growth-build.svg"]


def test_larger_models_and_larger_images_are_drawn_apart() -> None:
    larger_image, larger_model = TIMED | {"image_size": 384}, TIMED | {"shape": "small"}
    rows = [TIMED, larger_image, larger_model]
    assert of_one_image(rows) == [TIMED, larger_model]
    assert of_one_shape(rows) == [TIMED, larger_image]


def test_the_page_is_that_of_the_recorded_figures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, json.loads(RESULTS.read_text(encoding="utf-8"))) == text


@pytest.mark.parametrize("name", ["growth-latency.svg", "growth-image.svg", "growth-build.svg"])
def test_the_charts_are_beside_the_page(name: str) -> None:
    assert f"images/{name}" in PAGE.read_text(encoding="utf-8")
    assert (PAGE.parent / "images" / name).is_file()
