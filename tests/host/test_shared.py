"""What tests share among them: made once, told apart by its content, and never another run's."""

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from tests.exporter import ASKED, Program, keeping, key_of
from tests.shared import made_once
from vit_edge.host.vit import VisionTransformer, VitConfig

SMALL = VitConfig((8, 8), (4, 4), dim=8, depth=1, heads=2, mlp_dim=16, num_classes=3)
EXAMPLE = (torch.zeros(1, 3, 8, 8),)
DYNAMO: dict[str, Any] = {"dynamo": True, "opset_version": 20, "verbose": False}


@pytest.fixture
def model() -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(SMALL).eval()


def test_a_copy_of_a_module_is_the_same_request(model: VisionTransformer) -> None:
    assert key_of(model, EXAMPLE, DYNAMO) == key_of(copy.deepcopy(model), EXAMPLE, dict(DYNAMO)) is not None


def _changed_weight(model: VisionTransformer) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6


def _tied(model: VisionTransformer) -> None:
    first = model.blocks[0].get_submodule("norm1")
    model.blocks[0].get_submodule("norm2").weight = first.weight


def _in_training(model: VisionTransformer) -> None:
    model.train()


@pytest.mark.parametrize("change", [_changed_weight, _tied, _in_training])
def test_any_change_of_the_module_is_another_request(model: VisionTransformer, change: Any) -> None:
    before = key_of(model, EXAMPLE, DYNAMO)
    change(model)
    assert key_of(model, EXAMPLE, DYNAMO) not in (before, None)


@pytest.mark.parametrize(
    ("example", "options"),
    [((torch.zeros(2, 3, 8, 8),), DYNAMO), (EXAMPLE, DYNAMO | {"opset_version": 18})],
    ids=["batch", "opset"],
)
def test_another_example_or_option_is_another_request(
    model: VisionTransformer, example: tuple[torch.Tensor], options: dict[str, Any]
) -> None:
    assert key_of(model, example, options) != key_of(model, EXAMPLE, DYNAMO)


def test_what_cannot_be_told_by_its_content_is_not_kept() -> None:
    class Local(nn.Linear):
        pass

    assert key_of(Local(2, 2), EXAMPLE, DYNAMO) is None
    written = type("Own", (nn.Linear,), {"__module__": "own_code"})
    assert key_of(written(2, 2), EXAMPLE, DYNAMO) is None


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of the exporter itself
def test_what_is_kept_is_what_the_exporter_said(model: VisionTransformer, tmp_path: Path) -> None:
    export, expected = keeping(tmp_path), ASKED(model, EXAMPLE, None, **DYNAMO)
    first, again = export(model, EXAMPLE, **DYNAMO), export(copy.deepcopy(model), EXAMPLE, **DYNAMO)
    assert not isinstance(first, Program)
    assert isinstance(again, Program)
    assert expected is not None
    for made in (first, again):
        assert _arithmetic(made.model_proto) == _arithmetic(expected.model_proto)


def _arithmetic(model: onnx.ModelProto) -> tuple[list[str], dict[str, bytes]]:
    """Operators in order and weights; traces of source lines aside."""
    weights = {each.name: each.SerializeToString(deterministic=True) for each in model.graph.initializer}
    return [node.op_type for node in model.graph.node], weights


def test_a_folder_is_made_once_and_again_where_that_failed(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(place: Path) -> None:
        calls.append(place)
        (place / f"{len(calls)}").touch()
        if len(calls) == 1:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        made_once(tmp_path / "thing", make)
    for _ in range(2):
        assert [path.name for path in made_once(tmp_path / "thing", make).iterdir()] == ["2"]
    assert len(calls) == 2
