"""A bundle of a model without a classifier: from its folder to verdict, card, self-test and comparison."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.host.family_folders import image_tower_folder
from tests.host.pictures import smooth_folders
from vit_edge import Embedder
from vit_edge.bundle import Role, read_bundle, verify_bundle
from vit_edge.cli import main
from vit_edge.golden import read_golden
from vit_edge.spec import OutputKind, Verdict

Output = pytest.CaptureFixture[str]

FEW = 3  # exit status of UNDECIDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, images of two kinds, and a bundle of both."""
    root = tmp_path_factory.mktemp("tower")
    smooth_folders(root, {"calibration": 8, "warm": 12, "cold": 12})
    (root / "check").mkdir()
    for name in ("warm", "cold"):
        (root / name).rename(root / "check" / name)
    image_tower_folder(root / "source", "CLIPModel")
    assert main(words(root, "bundle")) == FEW
    return root


def words(root: Path, out: str, *options: str) -> list[str]:
    images = ["--calib", str(root / "calibration"), "--data", str(root / "check")]
    given = ["--preset", "static", "--threads", "1", "--repair", "never", "--target", "cpu"]
    return ["build", str(root / "source"), *images, *given, "-o", str(root / out), *options]


def test_the_bundle_gives_what_transformers_gives_for_the_image_file(folder: Path) -> None:
    image = folder / "check" / "warm" / "0.png"
    model = transformers.CLIPModel.from_pretrained(folder / "source").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder / "source", backend="pil")
    loaded = transformers.image_utils.load_image(str(image))
    with torch.no_grad():
        features = model.get_image_features(**processor(images=loaded, return_tensors="pt")).pooler_output
    expected = torch.nn.functional.normalize(features, dim=-1)[0].numpy()
    plain = Embedder(folder / "bundle", provider="cpu", decoding="exact", model=Role.EMBEDDER_FLOAT)
    np.testing.assert_allclose(plain(image).pooled, expected, atol=1e-5)
    int8 = Embedder(folder / "bundle", provider="cpu", decoding="exact", model=Role.EMBEDDER)
    assert float(int8(image).pooled @ expected) > 0.95
    assert not np.array_equal(int8(image).pooled, plain(image).pooled)


def test_manifest_card_and_report_say_what_it_gives_and_how_it_was_judged(folder: Path) -> None:
    bundle = verify_bundle(folder / "bundle")
    manifest = bundle.manifest
    assert manifest.output is OutputKind.UNIT_EMBEDDING
    assert manifest.source_parity.state.value == "proven"
    assert any("brought to length 1" in note for note in manifest.source.notes)
    accuracy = manifest.accuracy
    assert accuracy is not None
    own = accuracy.report.evidence.embeddings
    assert own is not None
    assert (own.verdict, accuracy.report.verdict) == (
        Verdict.UNDECIDED,
    ) * 2  # 24 images know no 1 % quantile
    assert accuracy.report.images_needed == own.images_needed
    assert own.labelled  # folders are classes of whatever name
    assert {each.output for each in own.criteria} == {"embedding"}
    assert len(own.criteria) == 5
    card = (bundle.path / "README.md").read_text()
    assert "pipeline_tag: image-feature-extraction" in card
    assert "| `embedding` | recall_at_10 |" in card
    assert 'embed("image.jpg").pooled  # (16,) float32' in card
    assert "Classifier" not in card
    page = (bundle.path / "report.html").read_text()
    assert "INT8 embeddings against float" in page
    assert "drop (95 % interval)" not in page  # embeddings are neither right nor wrong
    assert "id2label" not in json.loads((bundle.path / "config.json").read_text())


def test_golden_cases_hold_a_device_to_vectors_whose_numbers_are_small(folder: Path, capsys: Output) -> None:
    cases = read_golden(read_bundle(folder / "bundle"))
    assert {case.output for case in cases} == {"embedding"}
    plain = [case for case in cases if case.model == "onnx/model.onnx"]
    assert all(0 < case.tolerance < 1e-3 for case in plain)  # of numbers below 1
    assert main(["selftest", str(folder / "bundle")]) in (0, 1)  # 1 where the machine is busy
    assert "embedding off by at most" in capsys.readouterr().out


def test_its_files_are_embedded_and_compared_as_embedders_are(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    bundle, image = str(folder / "bundle"), str(folder / "check" / "cold" / "1.png")
    assert main(["embed", bundle, image]) == 0
    assert "pooled (16,): " in capsys.readouterr().out
    assert main(["embed", bundle, image, "--dir", str(folder / "check"), "-o", str(tmp_path / "x.npy")]) == 0
    rows = np.load(tmp_path / "x.npy")
    assert rows.shape[1:] == (16,)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-4)
    data = ["--data", str(folder / "check"), "--json", str(tmp_path / "r.json")]
    assert main(["compare", bundle, bundle, *data]) == FEW
    found = [each["found"] for each in json.loads((tmp_path / "r.json").read_text())["criteria"]]
    accuracy = read_bundle(folder / "bundle").manifest.accuracy
    assert accuracy is not None
    assert accuracy.report.evidence.embeddings is not None
    recorded = [each.found for each in accuracy.report.evidence.embeddings.criteria]
    assert found == pytest.approx(recorded, abs=1e-6)


def test_a_strict_tolerance_fails_and_the_bundle_says_by_what(folder: Path, capsys: Output) -> None:
    assert main(words(folder, "strict", "--min-cosine", "0.9999999")) == 1
    printed = capsys.readouterr().out
    assert "embedding: embedding: mean cosine 0.9" in printed
    assert "at least 1.0000: FAIL" in printed
    assert "FAIL on 24 labelled images for" not in printed  # labelled: the claim is in the criteria
    accuracy = read_bundle(folder / "strict").manifest.accuracy
    assert accuracy is not None
    assert accuracy.report.verdict is Verdict.FAIL


# --- what is refused


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["embed", "{bundle}", "{image}", "--kind", "cls"], "has no CLS embedding; its kind is pooled"),
        (["classify", "{bundle}", "{image}"], "is an embedder, not a classifier"),
        (["explain", "{bundle}", "{image}", "-o", "{out}"], "is an embedder, not a classifier"),
        (["doctor", "{bundle}", "--data", "{data}"], "gives embeddings: doctor looks at answers"),
        (["package", "{bundle}", "--for", "node", "-o", "{out}"], "is an embedder, not a classifier"),
        (
            ["compare", "{bundle}", "{bundle}", "--data", "{data}", "--sequential"],
            "--sequential judges models",
        ),
    ],
)
def test_commands_about_classes_refuse_it_in_one_line(
    command: list[str], message: str, folder: Path, tmp_path: Path, capsys: Output
) -> None:
    places = {
        "bundle": folder / "bundle",
        "image": folder / "check" / "cold" / "0.png",
        "data": folder / "check",
        "out": tmp_path / "out.png",
    }
    assert main([word.format(**places) for word in command]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert message in printed[-1]
    assert not (tmp_path / "out.png").exists()


def test_an_embedder_beside_it_and_an_expected_accuracy_are_refused(folder: Path, capsys: Output) -> None:
    assert main(words(folder, "other", "--embedder")) == 2
    assert "gives embeddings itself: leave --embedder out" in capsys.readouterr().err
    assert main(words(folder, "other", "--expect-top1", "90")) == 2
    assert "--expect-top1 is about models of single labels only" in capsys.readouterr().err
    assert not (folder / "other").exists()
