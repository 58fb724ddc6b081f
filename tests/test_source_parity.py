"""The record of the proof source -> float: read back as written, refused where malformed."""

import dataclasses
import json
from typing import Any

import pytest

from vit_edge.source_parity import (
    UNRECORDED,
    Difference,
    ProofState,
    SourceParity,
    Stage,
    not_proven,
)

DIFFERENCE = Difference("cat.jpg", Stage.CROP, "tabby", 0.75, "tiger cat", 0.25)
DIFFERS = SourceParity(
    ProofState.DIFFERS, "one differs", "transformers 5", 3, 1, 66.0, 0.5, 1e-4, (DIFFERENCE,)
)


@pytest.mark.parametrize(
    "record",
    [
        UNRECORDED,
        not_proven("it is an ONNX file"),
        DIFFERS,
        dataclasses.replace(
            DIFFERS, shown=(dataclasses.replace(DIFFERENCE, stage=None, reference_probability=None),)
        ),
    ],
    ids=["unrecorded", "not proven", "differs", "without stage"],
)
def test_a_record_is_read_back_as_written(record: SourceParity) -> None:
    assert SourceParity.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "surely"}, "source_parity state must be one of proven, differs, not proven"),
        ({"reason": ""}, "source_parity reason"),
        ({"images": -1}, "source_parity images"),
        ({"largest": "much"}, "source_parity largest must be a finite number"),
        ({"shown": {}}, "source_parity shown must be a list"),
        ({"shown": [{"image": "a"}]}, "each item of source_parity shown lacks"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_malformed_record_is_refused_by_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceParity.from_json({**DIFFERS.to_json(), **change})


def test_a_stage_that_does_not_exist_is_refused() -> None:
    raw = DIFFERS.to_json()
    raw["shown"][0]["stage"] = "blur"
    with pytest.raises(ValueError, match="each item of source_parity shown stage must be one of decode"):
        SourceParity.from_json(raw)


def test_a_difference_says_where_and_by_how_much() -> None:
    text = str(DIFFERENCE)
    assert "cat.jpg: tabby 0.7500 by the source, tiger cat here" in text
    assert text.endswith("(first in crop)")
    assert DIFFERS.stages == (Stage.CROP,)
