"""`vit-edge compare` of two embedders, from image files to the verdict, and what is no such pair."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.evaluate.embedders import noisy_copy
from vit_edge.cli.entry import main
from vit_edge.errors import DatasetError
from vit_edge.runtime.evaluate.dataset import read_grouped
from vit_edge.runtime.evaluate.embeddings import compare_embedders
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.predict.embedder import Embedder
from vit_edge.spec import EmbeddingTolerance
from vit_edge.verify.fidelity import fidelity

DATA = Path(__file__).resolve().parents[2] / "data"
EMBEDDER = DATA / "embedder.onnx"
KINDS = ("aardvark", "zebra")  # no class of any model

Output = pytest.CaptureFixture[str]


def photos(folder: Path, each: int, seed: int = 0) -> Path:
    """Images of two kinds, bright above and bright below, each with noise of its own."""
    generator = np.random.default_rng(seed)
    for kind, name in enumerate(KINDS):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = generator.integers(0, 160, (10, 10, 3))
            pixels[5 * kind : 5 * kind + 5] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03}.png")
    return folder


def flat(folder: Path) -> Path:
    """The same images, of which nobody says what they are."""
    for path in sorted(folder.glob("*/*.png")):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    for name in KINDS:
        (folder / name).rmdir()
    return folder


def rows(capsys: Output) -> list[tuple[str, str]]:
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    return [(line[0], line[1].strip()) for line in lines]


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    """The float one."""
    return noisy_copy(EMBEDDER, tmp_path / "float.onnx", 0.0)


def test_a_close_embedder_passes_on_unlabelled_images(embedder: Path, tmp_path: Path, capsys: Output) -> None:
    close = noisy_copy(embedder, tmp_path / "close.onnx", 0.002)
    report = tmp_path / "report.json"
    words = ["compare", str(embedder), str(close), "--data", str(flat(photos(tmp_path / "photos", 250)))]
    assert main([*words, "--json", str(report), "--junit", str(tmp_path / "junit.xml")]) == 0
    printed = rows(capsys)
    assert ("images", "500 (unlabelled)") in printed
    assert dict(printed)["verdict"] == "PASS, 8 of 8 criteria pass"
    assert any(name == "cls_embedding" and text.startswith("recall@10 9") for name, text in printed)
    raw = json.loads(report.read_text())
    assert (raw["verdict"], raw["n"], raw["labelled"]) == ("PASS", 500, False)
    assert [each["criterion"] for each in raw["criteria"]] == [
        *(["cosine", "cosine_tail", "recall_at_10"] * 2),
        *("cosine", "cosine_tail"),
    ]
    suite = ET.parse(tmp_path / "junit.xml").getroot()  # noqa: S314  our own file
    assert (suite.get("tests"), suite.get("failures")) == ("8", "0")
    names = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert float(names["cls_embedding.cosine"] or 0) == raw["criteria"][0]["found"]


def test_a_broken_embedder_fails_and_every_failed_criterion_is_a_failed_test(
    embedder: Path, tmp_path: Path, capsys: Output
) -> None:
    broken = noisy_copy(embedder, tmp_path / "broken.onnx", 1.0)
    words = ["compare", str(embedder), str(broken), "--data", str(photos(tmp_path / "photos", 100))]
    assert main([*words, "--junit", str(tmp_path / "junit.xml")]) == 1
    printed = rows(capsys)
    assert ("images", "200 (labelled)") in printed
    assert dict(printed)["verdict"].startswith("FAIL")
    assert any("drop by a linear probe" in text for _, text in printed)
    suite = ET.parse(tmp_path / "junit.xml").getroot()  # noqa: S314  our own file
    assert suite.get("tests") == "12"
    failures = [each.get("message") or "" for each in suite.iter("failure")]
    assert str(len(failures)) == suite.get("failures")
    assert any(message.startswith("FAIL: mean cosine ") for message in failures)


def test_few_images_are_undecided_and_say_what_would_decide(
    embedder: Path, tmp_path: Path, capsys: Output
) -> None:
    close = noisy_copy(embedder, tmp_path / "close.onnx", 0.002)
    words = ["compare", str(embedder), str(close), "--data", str(flat(photos(tmp_path / "photos", 20)))]
    assert main(words) == 3
    printed = dict(rows(capsys))
    assert printed["would decide"] == "about 328 more images like these"


def test_another_tolerance_is_another_verdict(embedder: Path, tmp_path: Path, capsys: Output) -> None:
    near = noisy_copy(embedder, tmp_path / "near.onnx", 0.05)
    data = str(flat(photos(tmp_path / "photos", 250)))
    words = ["compare", str(embedder), str(near), "--data", data]
    loose = ["--min-recall", "40", "--min-cosine-tail", "0.81"]
    assert main([*words, *loose, "--min-cosine", "0.85"]) == 0
    assert main([*words, *loose, "--min-cosine", "0.9999"]) == 1
    assert "mean cosine 0.99" in capsys.readouterr().out


def test_the_figures_are_those_of_the_embeddings_that_users_get(embedder: Path, tmp_path: Path) -> None:
    other = noisy_copy(embedder, tmp_path / "other.onnx", 0.1)
    images = read_grouped(photos(tmp_path / "photos", 30))
    found = compare_embedders(read_model(embedder), read_model(other), images, EmbeddingTolerance())
    given = [[Embedder(path, provider="cpu")(image) for image in images.paths] for path in (embedder, other)]
    for output, kind in (("cls_embedding", "cls"), ("patch_features", "patches")):
        reference, quantized = (np.stack([getattr(each, kind) for each in answers]) for answers in given)
        expected = fidelity(reference, quantized)
        assert found.report.outputs[output].cosine == pytest.approx(expected.cosine, abs=1e-5)
        assert found.report.outputs[output].sqnr_db == pytest.approx(expected.sqnr_db, abs=1e-2)


def test_copies_count_once_and_a_second_look_needs_more_confidence(
    embedder: Path, tmp_path: Path, capsys: Output
) -> None:
    close = noisy_copy(embedder, tmp_path / "close.onnx", 0.002)
    data = flat(photos(tmp_path / "photos", 40))
    copied = (data / f"{KINDS[0]}-000.png").read_bytes()
    (data / "again.png").write_bytes(copied)
    words = ["compare", str(embedder), str(close), "--data", str(data), "--json", str(tmp_path / "r.json")]
    main(words)
    printed = dict(rows(capsys))
    assert printed["images"] == "80 (unlabelled)"
    assert printed["copies"].startswith("1 images repeat another one")
    flat(photos(tmp_path / "more", 10, seed=9))
    for path in (tmp_path / "more").glob("*.png"):
        path.rename(data / f"more-{path.name}")
    main(words)
    assert dict(rows(capsys))["look"] == (
        "number 2 at these models, 80 of the images seen before: the verdict needs 97.5 % confidence"
    )


def test_classes_of_any_name_are_told_apart(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 3)
    assert read_grouped(folder).targets is not None
    assert read_grouped(folder).targets.tolist() == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]
    (folder / "labels.csv").write_text("path,label\nzebra/000.png,b\naardvark/000.png,a\nzebra/001.png,b\n")
    assert read_grouped(folder).targets.tolist() == [0, 1, 1]  # type: ignore[union-attr]
    (folder / "labels.csv").write_text("path,label\nzebra/000.png,900\naardvark/000.png,1\n")
    assert read_grouped(folder).targets.tolist() == [1, 900]  # type: ignore[union-attr]
    (folder / "labels.csv").write_text("path,label\nzebra/000.png,wnid2\n")
    assert read_grouped(folder, class_ids=("wnid1", "wnid2")).targets.tolist() == [1]  # type: ignore[union-attr]
    (folder / "labels.csv").write_text("path,kind\nzebra/000.png,b\n")
    with pytest.raises(DatasetError, match="has no column label"):
        read_grouped(folder)


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ("embedder.onnx", "dynamic.onnx", [], "dynamic.onnx is a classifier, the other an embedder"),
        ("dynamic.onnx", "embedder.onnx", [], "dynamic.onnx is a classifier, the other an embedder"),
        ("embedder.onnx", "embedder_without_cls.onnx", [], "compare two forms of one embedder"),
        ("embedder.onnx", "embedder.onnx", [], "are the same model"),
        ("embedder.onnx", "embedder_fixed4.onnx", ["--sequential"], "--sequential judges models of single"),
        ("embedder.onnx", "embedder_fixed4.onnx", ["--expect-top1", "80"], "--expect-top1 is about models"),
        ("embedder.onnx", "embedder_fixed4.onnx", ["--min-cosine", "1.5"], "--min-cosine must lie between"),
        ("embedder.onnx", "embedder_fixed4.onnx", ["--min-recall", "nan"], "--min-recall"),
        ("dynamic.onnx", "fixed4.onnx", ["--min-cosine", "0.9"], "--min-cosine judges embeddings"),
    ],
)
def test_what_is_no_pair_of_embedders_is_refused(
    first: str, second: str, options: list[str], message: str, tmp_path: Path, capsys: Output
) -> None:
    data = str(flat(photos(tmp_path / "photos", 2)))
    assert main(["compare", str(DATA / first), str(DATA / second), "--data", data, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_report_page_is_for_classifiers(tmp_path: Path, capsys: Output) -> None:
    close = noisy_copy(EMBEDDER, tmp_path / "close.onnx", 0.002)
    data = str(flat(photos(tmp_path / "photos", 2)))
    words = ["compare", str(EMBEDDER), str(close), "--data", data, "--report", str(tmp_path / "r.html")]
    assert main(words) == 2
    assert "--report looks into classifiers" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
