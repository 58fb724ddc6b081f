"""The accuracy that a model card states is found where it is stated, and nowhere else."""

from pathlib import Path

import pytest

from vit_edge.host.bundling.stated import stated_accuracy

INDEX = """---
license: apache-2.0
model-index:
- name: vit
  results:
  - task:
      type: image-classification
    metrics:
{}
---
# Card
"""


@pytest.mark.parametrize(
    ("metrics", "stated"),
    [
        ("    - type: accuracy\n      value: 0.8134\n      name: Accuracy", 81.34),
        ("    - name: Accuracy\n      type: accuracy\n      value: 81.34", 81.34),
        ("    - type: accuracy\n      name: Accuracy\n      value: 0.8134", 81.34),
        ("    - type: f1\n      value: 0.7", None),
        (
            "    - type: accuracy\n      value: 0.8\n    - type: accuracy\n      value: 0.9",
            None,
        ),  # of which set?
        ("    - type: accuracy\n      name: none\n    - type: f1\n      value: 0.7", None),
        ("    - type: accuracy\n      value: 181", None),
    ],
)
def test_the_model_index_is_read(tmp_path: Path, metrics: str, stated: float | None) -> None:
    (tmp_path / "README.md").write_text(INDEX.format(metrics))
    assert stated_accuracy(str(tmp_path)) == (stated if stated is None else pytest.approx(stated))


@pytest.mark.parametrize(
    "text", ["", "type: accuracy\nvalue: 0.8\n", "---\ntype: accuracy\n", "\x00\xff" * 9]
)
def test_a_card_that_states_nothing_states_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert stated_accuracy(str(tmp_path)) is None


def test_what_is_no_folder_has_no_card() -> None:
    assert stated_accuracy("timm:vit_tiny_patch16_224") is None
