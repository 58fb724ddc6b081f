"""What is given to Rockchip's toolkit is what was measured, and what it built is held against it."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.package.digits import Digits
from tools import check_rknn, rknn_cases
from vit_edge.bundle import Bundle, FileEntry, read_bundle, write_bundle
from vit_edge.errors import BundleError, UsageError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.hybrid.choose import Choice
from vit_edge.host.hybrid.reaches import Reach
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import cpu_session
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import Role, compiler_name, lowered_name
from vit_edge.targets import load_target

DIGITS = Path(__file__).parents[2] / "models" / "digits_vit"
TARGET = "rknn-rk3588"


def words(tmp_path: Path, **given: str) -> list[str]:
    options = {
        "source": "m",
        "calib": str(tmp_path),
        "data": str(tmp_path),
        "toolkit": sys.executable,
        **given,
    }
    return [word for key, value in options.items() for word in (f"--{key}", value)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "has no rknn-toolkit2"),
        ({"toolkit": "/nowhere/python"}, "cannot be run"),
        ({"target": "cpu"}, "says no provider option target_platform"),
        ({"target": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], said: str
) -> None:
    assert check_rknn.main(words(tmp_path, **given)) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("share", "1.5"), ("share", "some"), ("count", "0"), ("vendor", "x")]
)
def test_options_out_of_range_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        check_rknn.main(words(tmp_path, **{option: value}))
    assert f"--{option}" in capsys.readouterr().err


def given(digits: Digits) -> argparse.Namespace:
    return argparse.Namespace(calib=digits.images / "calibration", data=digits.images / "test", count=3)


def with_types(digits: Digits, out: Path, told: bytes) -> Bundle:
    """The digits' bundle with a file for the NPU and what lies beside it."""
    source = resolve(str(DIGITS), SourceOptions())
    form = LowerSettings(load_target(TARGET).form, normalisation_of(source.preprocess))
    model = lower(canonicalise(export(source)[0], source.name), form).SerializeToString()
    old = read_bundle(digits.bundle)
    files = {name: old.read(name) for name in old.manifest.files}
    added = {lowered_name(TARGET): (model, Role.LOWERED), compiler_name(TARGET): (told, Role.CONFIG)}
    entries = {name: FileEntry.of(data, role) for name, (data, role) in added.items()}
    manifest = dataclasses.replace(old.manifest, files={**old.manifest.files, **entries})
    return write_bundle(out, files | {name: data for name, (data, _) in added.items()}, manifest)


def test_a_bundle_gives_its_file_and_its_types(digits: Digits, tmp_path: Path) -> None:
    reach = Reach(-1.0, 2.0, (-0.5, 1.5))
    told = Choice({"embed.conv": reach}, ("head",), "least squares", {"least squares": 30.0}, {"head": 40.0})
    bundle = with_types(digits, tmp_path / "bundle", json.dumps(told.to_json()).encode())
    work = tmp_path / "work"
    work.mkdir()
    start, found = rknn_cases.from_bundle(bundle, load_target(TARGET), given(digits), work)
    assert found == told
    assert start.model.read_bytes() == bundle.read(lowered_name(TARGET))
    assert (len(start.calibration), len(start.images), start.exact.shape) == (20, 3, (3, 10))
    assert len(start.fewer(2).images) == 2
    np.testing.assert_array_equal(start.fewer(2).exact, start.exact[[0, 1]])


def test_a_bundle_for_something_else_is_refused(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model_rknn-rk3588\.quantization\.json' is not listed"):
        rknn_cases.from_bundle(read_bundle(digits.bundle), load_target(TARGET), given(digits), tmp_path)


@pytest.mark.parametrize("told", [b"{}", b"no json", b"[1]"])
def test_types_of_another_version_are_refused(digits: Digits, tmp_path: Path, told: bytes) -> None:
    bundle = with_types(digits, tmp_path / "bundle", told)
    with pytest.raises(UsageError, match="build the bundle again"):
        rknn_cases.from_bundle(bundle, load_target(TARGET), given(digits), tmp_path)


def test_the_file_for_the_toolkit_is_one_that_it_takes() -> None:
    """Opset 17, the embedding a convolution, Gelu spelled out, the axis of LayerNormalization stated."""
    source = resolve(str(DIGITS), SourceOptions())
    canonical = canonicalise(export(source)[0], source.name)
    form = load_target(TARGET).form
    made = lower(canonical, LowerSettings(form, normalisation_of(source.preprocess)))
    assert [opset.version for opset in made.opset_import] == [17]
    assert [size.dim_value for size in made.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 32, 32]
    nodes = {node.op_type for node in made.graph.node}
    assert "Conv" in nodes
    assert not nodes & {"Gelu", "QuantizeLinear", "DequantizeLinear"}
    norms = [node for node in made.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert all("axis" in {attribute.name for attribute in node.attribute} for node in norms)
    cpu_session(made.SerializeToString())
