"""A bundle with embedders, from the source's folder to the verdict, the card and a later comparison."""

import json
from pathlib import Path

import pytest

from tests.host.output_kinds import folder_of
from tests.host.pictures import smooth_folders
from vit_edge import Embedder
from vit_edge.bundle import Role, read_bundle, verify_bundle
from vit_edge.cli import main
from vit_edge.spec import Verdict

Output = pytest.CaptureFixture[str]

FEW = 3  # exit status of UNDECIDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, images, and a bundle of both."""
    root = tmp_path_factory.mktemp("embedder")
    smooth_folders(root, {"calibration": 8, "check": 24})
    folder_of(root / "source", 3, "single_label_classification")
    assert main(words(root, "bundle")) in (0, 1, FEW)
    return root


def words(root: Path, out: str, *options: str) -> list[str]:
    """A build in which the classifier passes whatever it says, so that nothing is repaired."""
    images = ["--calib", str(root / "calibration"), "--data", str(root / "check")]
    lenient = ["--preset", "static", "--threads", "1", "--max-changed", "100", "--max-drop", "100"]
    return ["build", str(root / "source"), *images, *lenient, "-o", str(root / out), "--embedder", *options]


def test_the_manifest_records_the_verdict_and_the_card_shows_it(folder: Path) -> None:
    bundle = read_bundle(folder / "bundle")
    verify_bundle(folder / "bundle")
    recipe = bundle.manifest.quantization
    assert recipe is not None
    assert recipe.embedder is not None
    report = recipe.embedder.report
    assert report is not None
    assert report.verdict is Verdict.UNDECIDED  # 24 images know no 1 % quantile
    assert report.images_needed is not None
    assert report.images_needed > 300
    assert recipe.embedder.images == report.n == 24
    assert recipe.embedder.left_out == ""
    assert bundle.with_role(Role.EMBEDDER) == ["onnx/embedder_quantized.onnx"]
    card = (folder / "bundle" / "README.md").read_text()
    assert "**UNDECIDED** at 95 % confidence: `onnx/embedder_quantized.onnx`" in card
    assert "| `patch_features` | cosine_tail |" in card
    page = (folder / "bundle" / "report.html").read_text()
    assert "INT8 embeddings against float" in page
    assert "UNDECIDED on 24 unlabelled images, 24 of them independent." in page


def test_the_embedders_of_a_bundle_are_compared(folder: Path, tmp_path: Path, capsys: Output) -> None:
    bundle, report = str(folder / "bundle"), tmp_path / "r.json"
    data = ["--data", str(folder / "check"), "--json", str(report)]
    assert main(["compare", bundle, bundle, "--embedder", *data]) == FEW
    assert "criteria pass" in capsys.readouterr().out
    recipe = read_bundle(folder / "bundle").manifest.quantization
    assert recipe is not None
    assert recipe.embedder is not None
    assert recipe.embedder.report is not None
    raw = json.loads(report.read_text())
    found = [each["found"] for each in raw["criteria"]]
    assert found == pytest.approx([each.found for each in recipe.embedder.report.criteria])
    assert raw["evidence"]["look"]["number"] == 1  # the build's own look at the same images is no other one


def test_int8_embeddings_that_fail_are_left_out_and_float_ones_run(folder: Path, capsys: Output) -> None:
    strict = ["--min-cosine", "0.99999999", "--min-cosine-tail", "0.99999999"]
    assert main(words(folder, "strict", *strict)) == 1
    printed = capsys.readouterr().out
    assert "embedder: FAIL, " in printed
    assert "embedder: INT8 is left out: it fails by cosine of " in printed
    bundle = read_bundle(folder / "strict")
    assert bundle.with_role(Role.EMBEDDER) == []
    assert bundle.embedders() == ["onnx/embedder.onnx"]
    embed = Embedder(folder / "strict", provider="cpu")
    assert embed(next((folder / "check").glob("*.png"))).pooled.shape == (embed.dim,)
    assert "The INT8 embedder is not in this folder: it fails by" in (folder / "strict/README.md").read_text()
    strictly, data = str(folder / "strict"), str(folder / "check")
    assert main(["compare", strictly, strictly, "--embedder", "--data", data]) == 2
    assert "holds no INT8 embedder" in capsys.readouterr().err


def test_a_tolerance_for_embeddings_without_embedders_is_refused(folder: Path, capsys: Output) -> None:
    asked = [word for word in words(folder, "none", "--min-recall", "50") if word != "--embedder"]
    assert main(asked) == 2
    assert "--min-recall judges embeddings: add --embedder, or leave it out" in capsys.readouterr().err
    assert not (folder / "none").exists()


@pytest.mark.parametrize("command", ["build", "quantize"])
def test_an_output_of_no_embedder_is_refused(command: str, folder: Path, capsys: Output) -> None:
    words = [command, str(folder / "source"), "--calib", str(folder / "calibration")]
    assert main([*words, "-o", str(folder / "no.onnx"), "--embedder-for", "patches"]) == 2
    assert (
        "--embedder-for says what an embedder is for: add --embedder, or leave it out"
        in capsys.readouterr().err
    )
