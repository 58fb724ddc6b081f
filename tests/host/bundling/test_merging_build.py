"""`--merge-tokens` to a file and to a bundle: taken where it passes and pays, or said why not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.host.bundling.given_times import timed_as
from tests.host.bundling.small_folder import given_costs, small_folder
from tests.host.quantize.small_vit import PREPROCESS, images, run
from vit_edge import Classifier, verify_bundle
from vit_edge.bundle import Bundle
from vit_edge.cli import main
from vit_edge.errors import TargetError, UsageError
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.convert.onnx_io import properties, read_onnx
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import MergingRecord, Repair
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.metadata import MERGED_KEY
from vit_edge.spec import Tolerance
from vit_edge.targets import load_target

__all__ = ["given_costs"]  # a fixture

INT8 = "onnx/model_quantized.onnx"
CHECKED, CALIBRATED = 400, 20
# one static range changes 9 % of the answers, four of 16 patches merged in each of two blocks 17 % more
LENIENT, BETWEEN, HARD = (Tolerance(max_drop=90.0, max_changed=each) for each in (95.0, 16.0, 0.5))


def merges(model: ModelFile) -> bool:
    return MERGED_KEY in model.metadata


FASTER = timed_as(lambda model: 0.3 if merges(model) else 0.5)
SLOWER = timed_as(lambda model: 0.6 if merges(model) else 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("merging"), CALIBRATED, CHECKED)


@pytest.fixture(scope="module")
def build(folder: Path) -> Callable[..., Bundle]:
    quantize = QuantizeSettings(Preset.STATIC, CALIBRATED, cache=folder / "cache")
    settings = BuildSettings(
        folder / "calibration", folder / "check", quantize=quantize, threads=1, merge_tokens=4
    )
    source = resolve(str(folder / "small.onnx"), SourceOptions())
    made: dict[str, Bundle] = {}

    def once(name: str, **changes: Any) -> Bundle:
        if name not in made:
            made[name] = build_bundle(source, dataclasses.replace(settings, **changes), folder / name)
        return made[name]

    return once


def record_of(bundle: Bundle) -> MergingRecord:
    recipe = verify_bundle(bundle.path).manifest.quantization
    assert recipe is not None
    assert recipe.merging is not None
    return recipe.merging


def test_a_file_that_passes_and_is_faster_for_it_is_taken(build: Callable[..., Bundle]) -> None:
    bundle = build("taken", tolerance=LENIENT, bench=FASTER)
    record, recipe = record_of(bundle), bundle.manifest.quantization
    assert (record.count, record.tokens) == (4, (13, 9))
    assert record.files == {INT8: "merged: the fastest that passes"}
    assert recipe is not None
    assert recipe.models[INT8].merged_tokens == 4
    assert recipe.repair.looks == 2
    assert [row.name for row in recipe.pareto] == ["float32", "static", "static, 4 tokens merged per block"]
    assert properties(read_onnx(bundle.path / INT8))[MERGED_KEY] == "4"
    assert MERGED_KEY not in properties(read_onnx(bundle.path / "onnx/model.onnx"))
    assert "4 tokens per block that become part of others" in (bundle.path / "README.md").read_text()
    assert len(Classifier(bundle.path, threads=1)(next((bundle.path.parent / "check").iterdir()))) == 5
    assert main(["selftest", str(bundle.path)]) == 0


@pytest.mark.parametrize(
    ("name", "tolerance", "bench", "why"),
    [
        ("slower", LENIENT, SLOWER, "not merged: slower than static"),
        ("worse", BETWEEN, FASTER, "not merged: does not keep the accuracy asked for"),
        (
            "never",
            HARD,
            FASTER,
            "not tried: no quantization keeps the accuracy asked for, even with every token",
        ),
    ],
)
def test_what_does_not_pay_is_not_taken_and_says_why(
    build: Callable[..., Bundle], name: str, tolerance: Tolerance, bench: Any, why: str
) -> None:
    bundle = build(name, tolerance=tolerance, bench=bench)
    assert record_of(bundle).files == {INT8: why}
    files = [bundle.path / each for each in bundle.models()]
    assert not any(MERGED_KEY in properties(read_onnx(file)) for file in files)


def test_who_does_not_ask_has_no_record_of_it(build: Callable[..., Bundle]) -> None:
    manifest = build("plain", tolerance=LENIENT, bench=FASTER, merge_tokens=0).manifest
    assert manifest.quantization is not None
    assert manifest.quantization.merging is None
    assert "merg" not in str(manifest.to_json()["quantization"])


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"embedder": True}, UsageError, "--merge-tokens leaves no grid of patches, which --embedder gives"),
        ({"repair": Repair.NEVER}, UsageError, "--repair never keeps what comes first: leave one out"),
        ({"targets": (load_target("qnn-htp"),)}, TargetError, "computes every operator in integers"),
        ({"merge_tokens": 6}, UsageError, "6 is more than small.* has to merge: its 17 tokens last 2 blocks"),
        ({"merge_tokens": -1}, ValueError, "merge_tokens must be at least 0, got -1"),
    ],
    ids=["embedder", "no repair", "integers alone", "too many", "fewer than none"],
)
def test_what_does_not_go_with_it_is_refused(
    build: Callable[..., Bundle], changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        build("refused", **changes)


def words(folder: Path, out: Path, command: str = "quantize") -> list[str]:
    calib = ["--calib", str(folder / "calibration"), "--calib-images", "20"]
    calib += ["--calib-cache", str(folder / "cache"), "--preset", "static"]
    return [command, str(folder / "small.onnx"), *calib, "-o", str(out)]


def test_the_integer_products_of_a_file_keep_their_forms(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "kept.onnx", tmp_path / "merged.onnx"]
    assert main(words(folder, files[0])) == 0
    assert main([*words(folder, files[1]), "--merge-tokens", "2"]) == 0
    assert "2 tokens merge in each of 2 blocks: 17 become 13" in capsys.readouterr().out
    kept, merged = map(read_onnx, files)
    models = kept, merged
    coded = [
        sorted(t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8)
        for model in models
    ]
    assert coded[0] == coded[1]
    restored = [sum(node.op_type == "DequantizeLinear" for node in model.graph.node) for model in models]
    assert restored[0] == restored[1] > 30
    given = normalize(images(8, 5), PREPROCESS)
    assert (run(kept, given) != run(merged, given)).any()


def test_no_tokens_merged_is_the_very_same_file(folder: Path, tmp_path: Path) -> None:
    for command in ("quantize", "export"):
        files = [tmp_path / f"{command}.{name}.onnx" for name in "ab"]
        for file, more in zip(files, ([], ["--merge-tokens", "0"]), strict=True):
            line = (
                words(folder, file)
                if command == "quantize"
                else ["export", str(folder / "small.onnx"), "-o", str(file)]
            )
            assert main([*line, *more]) == 0
        assert files[0].read_bytes() == files[1].read_bytes()


def test_inspect_tells_of_a_file_and_of_a_bundle(
    folder: Path, build: Callable[..., Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "merged.onnx"
    assert main(["export", str(folder / "small.onnx"), "--merge-tokens", "3", "-o", str(file)]) == 0
    assert "same as the export as long as no tokens merge" in capsys.readouterr().out
    assert main(["inspect", str(file)]) == 0
    assert "3 tokens in each block" in capsys.readouterr().out
    assert main(["inspect", str(build("slower", tolerance=LENIENT, bench=SLOWER).path)]) == 0
    assert (
        f"4 tokens per block, 9 tokens left: {INT8}: not merged: slower than static"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("command", ["quantize", "export", "optimize"])
def test_a_file_that_merges_is_no_source(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = tmp_path / "merged.onnx"
    assert main(["export", str(folder / "small.onnx"), "--merge-tokens", "3", "-o", str(file)]) == 0
    calib = ["--calib", str(folder / "calibration")] if command == "quantize" else []
    assert main([command, str(file), *calib, "-o", str(tmp_path / "again.onnx")]) == 2
    assert (
        "merged.onnx merges tokens already: pass the classifier that it was made from"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--merge-tokens", "-1"], "'-1' is no number of tokens, which is 0 or more"),
        (["--merge-tokens", "many"], "'many' is no number of tokens"),
        (["--merge-tokens", "9"], "--merge-tokens 9 is more than small has to merge"),
        (["--merge-tokens", "2", "--embedder"], "which --embedder gives: leave one out"),
        (["--merge-tokens", "2", "--attention"], "which --attention gives: leave one out"),
    ],
)
def test_the_command_refuses_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert main([*words(folder, tmp_path / "x.onnx"), *more]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert len([line for line in printed.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "x.onnx").exists()
