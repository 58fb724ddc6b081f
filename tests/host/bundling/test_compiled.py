"""With a target's compiler at hand the bundle holds what it made, and says what it made of each product."""

import dataclasses
from pathlib import Path

import pytest

from tests.host.bundling.given_times import timed_as
from tests.host.bundling.small_folder import given_costs, small_folder
from tests.host.compilers.fake_toolkit import fake_toolkit
from vit_edge import verify_bundle
from vit_edge.bundle import Bundle, read_bundle
from vit_edge.cli.build import summary
from vit_edge.errors import UsageError
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.compilers.known import check_compiler
from vit_edge.host.convert.export import export
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.hybrid.products import products_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import CompiledRecord, Role, compiled_name, compiler_name
from vit_edge.spec import Tolerance
from vit_edge.targets import load_target

__all__ = ["given_costs"]  # a fixture

TARGET = "rknn-rk3588"
MADE = compiled_name(TARGET, ".rknn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("compiled"), 20, 40)


@pytest.fixture(scope="module")
def products(folder: Path) -> list[str]:
    """Of the target's file."""
    source = resolve(str(folder / "small.onnx"), SourceOptions())
    form = LowerSettings(load_target(TARGET).form, normalisation_of(source.preprocess))
    model = lower(canonicalise(export(source)[0], source.name), form)
    return [product.name for product in products_of(model)]


def settings(folder: Path, compiler: Path) -> BuildSettings:
    return BuildSettings(
        folder / "calibration",
        folder / "check",
        targets=(load_target(TARGET),),
        quantize=QuantizeSettings(Preset.STATIC, 20),
        tolerance=Tolerance(max_drop=90.0, max_changed=95.0),
        bench=timed_as(lambda _: 0.5),
        threads=1,
        compiler=compiler,
    )


def build(folder: Path, compiler: Path, out: Path) -> Bundle:
    return build_bundle(resolve(str(folder / "small.onnx"), SourceOptions()), settings(folder, compiler), out)


@pytest.fixture(scope="module")
def bundle(folder: Path, products: list[str]) -> Bundle:
    python = fake_toolkit(folder / "toolkit", products, ("blocks.0.fc1",), ("logits_rs",))
    return build(folder, python, folder / "bundle")


def test_what_it_made_is_a_file_of_the_bundle_and_hashed(bundle: Bundle) -> None:
    found = verify_bundle(bundle.path)
    assert found.manifest.files[MADE].role is Role.COMPILED
    assert found.read(MADE) == b"RKNNrk3588"
    assert compiler_name(TARGET) in found.manifest.files


def test_the_manifest_says_what_became_of_each_product(bundle: Bundle) -> None:
    recipe = read_bundle(bundle.path).manifest.quantization
    assert recipe is not None
    (record,) = recipe.compiled
    assert record.path == MADE
    assert record.compiler == "rknn-toolkit2 2.5.0"
    assert record.otherwise == ("blocks.0.fc1: FLOAT16",)
    assert record.on_the_cpu == ("logits_rs",)
    assert 0.0 < record.macs_in_8_bits < 85.0


def test_no_row_of_the_builds_table_speaks_of_it(bundle: Bundle) -> None:
    """It cannot be run here: nothing was measured."""
    assert ".rknn" not in summary(bundle.manifest)


RECORD = CompiledRecord(path="onnx/m.rknn", compiler="c 1", macs_in_8_bits=85.41, otherwise=(), on_the_cpu=())


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (RECORD, "85.4 % of multiply-adds in 8 bits, every product as asked, no layer on the CPU"),
        (
            dataclasses.replace(RECORD, otherwise=("head: FLOAT16", "q: INT8"), on_the_cpu=("a", "b")),
            "otherwise than asked: head: FLOAT16; q: INT8, on the CPU a, b",
        ),
    ],
)
def test_it_is_said_in_a_line(record: CompiledRecord, said: str) -> None:
    assert record.summary.startswith("onnx/m.rknn: c 1, ")
    assert record.summary.endswith(said)


def test_a_compiler_that_fails_leaves_no_bundle(folder: Path, products: list[str], tmp_path: Path) -> None:
    python = fake_toolkit(tmp_path / "toolkit", products, fails=True)
    with pytest.raises(UsageError, match=r"rknn-toolkit2 fails \(E build: Unsupported layer\)") as told:
        build(folder, python, tmp_path / "bundle")
    assert "--compiler" in str(told.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("target", "compiler", "said"),
    [
        ("cpu", "python", "--compiler goes with a --target that rknn-toolkit2 compiles for"),
        ("coreml", "python", "--compiler goes with a --target"),
        (TARGET, "nowhere/python", r"--compiler .*nowhere/python cannot be run"),
        (TARGET, "", "--compiler .* cannot be run"),
    ],
)
def test_a_compiler_that_cannot_be_used_is_refused_before_any_work(
    tmp_path: Path, target: str, compiler: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_compiler(tmp_path / compiler, [load_target(target)])


def test_an_interpreter_without_the_toolkit_is_refused_with_the_command_that_installs_it(
    tmp_path: Path,
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(UsageError, match=r"has no rknn-toolkit2; run: .*python -m pip install rknn-toolkit2"):
        check_compiler(python, [load_target(TARGET)])
