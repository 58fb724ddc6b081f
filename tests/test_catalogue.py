"""What is known of measured models: read strictly, found by any of their hashes, the same on the page."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.manifests import accuracy
from tools import catalogue as tool
from vit_edge.catalogue import Figure, FileFigures, KnownModel, Measured, find, known_models
from vit_edge.catalogue.models import read_models, to_text
from vit_edge.cli import main
from vit_edge.manifest import FileEntry, LatencyRecord, Machine, Manifest, Role, SourceRecord
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode, Tolerance, Verdict

DIGITS = Path(__file__).resolve().parents[1] / "models" / "digits_vit"
MACHINE = Machine("A processor", 2, ("avx2",), "Linux", "3.11.2", "1.32.0")
REFERENCE = FileFigures("onnx/model.onnx", "1" * 64, 20.0, None, 90.0, None, None, 1.0, (1.0, 1.0))
PORTABLE = FileFigures(
    "onnx/model_quantized.onnx", "2" * 64, 6.0, Verdict.PASS, 89.5, 99.0, 25.0, 0.5, (0.45, 0.55)
)
MEASURED = Measured("photos", 500, True, MACHINE, {"vit-edge": "0.1.0"}, (REFERENCE, PORTABLE))
KNOWN = KnownModel("toy", "Toy", "MIT", "0" * 64, (MEASURED,))


def test_the_page_says_what_the_catalogue_holds() -> None:
    assert tool.PAGE.read_text() == tool.page(known_models()), "run: python -m tools.catalogue page"


def test_every_known_model_has_a_card_and_figures_of_a_float_and_an_int8_file() -> None:
    assert known_models()
    for model in known_models():
        assert (DIGITS.parent / model.slug / "README.md").is_file()
        for each in model.measured:
            assert each.files[0].verdict is None
            assert all(file.verdict is not None for file in each.files[1:])


@pytest.mark.parametrize("model", known_models(), ids=lambda model: model.slug)
def test_a_model_is_found_by_its_checkpoint_and_by_every_file_made_of_it(model: KnownModel) -> None:
    hashes = [model.source_sha256, *(file.sha256 for each in model.measured for file in each.files)]
    assert all(find(["f" * 64, each]) is model for each in hashes)


def test_an_unknown_hash_finds_nothing() -> None:
    assert find(["f" * 64]) is None
    assert find([]) is None


def test_what_is_written_is_read_again() -> None:
    assert read_models(to_text((KNOWN,))) == (KNOWN,)


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("source_sha256",), "abc", "source_sha256"),
        (("licence",), None, "licence"),
        (("measured", 0, "images"), -1, "images"),
        (("measured", 0, "files", 1, "verdict"), "FINE", "verdict"),
        (("measured", 0, "files", 1, "ratio_interval"), [1.0], "ratio_interval"),
    ],
)
def test_a_catalogue_with_an_impossible_value_is_refused_by_its_key(
    path: tuple[str | int, ...], value: object, found: str
) -> None:
    raw = json.loads(to_text((KNOWN,)))
    place = raw["models"][0]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=found):
        read_models(json.dumps(raw))


@pytest.mark.parametrize(
    ("portable", "sentence"),
    [
        (PORTABLE, "PASS: top-1 90.0 -> 89.5 %, agreement 99.0 %, 0.50 of float's time"),
        (dataclasses.replace(PORTABLE, top1=None), "PASS: agreement 99.0 %, 0.50 of float's time"),
        (dataclasses.replace(PORTABLE, ratio=None), "PASS: top-1 90.0 -> 89.5 %, agreement 99.0 %"),
    ],
    ids=["labelled", "unlabelled", "not timed"],
)
def test_figures_are_one_sentence(portable: FileFigures, sentence: str) -> None:
    known = dataclasses.replace(KNOWN, measured=(dataclasses.replace(MEASURED, files=(REFERENCE, portable)),))
    told = f"{portable.path}, {sentence} (500 images of photos, A processor (avx2))"
    assert known.figures(["0" * 64]) == [Figure(told, itself=False)]


@pytest.mark.parametrize(
    ("tolerance", "asked"),
    [
        (Tolerance(), ""),
        (Tolerance(max_changed=10.0), "--max-changed 10"),
        (Tolerance(max_drop=2.5, confidence=0.9), "--max-drop 2.5, --confidence 0.9"),
    ],
)
def test_a_verdict_at_another_tolerance_than_the_default_says_so(tolerance: Tolerance, asked: str) -> None:
    versions = dict.fromkeys(("vit-edge", "onnxruntime", "torch"), "1")
    measured = dataclasses.replace(MEASURED, tolerance=tolerance, versions=versions)
    known = dataclasses.replace(KNOWN, measured=(measured,))
    assert known.measured[0].asked == asked
    ((told,),) = [[each.told for each in known.figures(["0" * 64])]]
    shown = tool.page([known])
    assert (f"photos, {asked}," in told) is bool(asked)
    assert (f"judged with {asked}:" in shown) is bool(asked)
    assert read_models(to_text((known,))) == (known,)


def test_figures_are_those_of_the_file_that_is_asked_for() -> None:
    other = dataclasses.replace(PORTABLE, path="onnx/model_other.onnx", sha256="d" * 64, agreement=90.0)
    files = (REFERENCE, PORTABLE, other)
    known = dataclasses.replace(KNOWN, measured=(dataclasses.replace(MEASURED, files=files),))
    [asked], [reference] = known.figures([other.sha256]), known.figures([REFERENCE.sha256])
    assert asked.itself
    assert "model_other.onnx" in asked.told
    assert "agreement 90.0 %" in asked.told
    assert not reference.itself
    assert PORTABLE.path in reference.told


def test_inspect_shows_what_is_known_of_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    known = find([next(model for model in known_models() if model.slug == "digits_vit").source_sha256])
    assert known is not None
    assert main(["inspect", str(DIGITS)]) == 0
    shown = capsys.readouterr().out
    assert f"known as       {known.name}" in shown
    assert all(f"same source    {each.told}" in shown for each in known.figures([known.source_sha256]))


def test_inspect_says_nothing_of_a_model_that_nobody_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "tests/data/dynamic.onnx"]) == 0
    assert "known as" not in capsys.readouterr().out


def manifest(with_accuracy: bool = True, environment: Machine | None = MACHINE) -> Manifest:
    """Of a bundle of three models, of which one was judged and timed."""
    times = LatencyRecord(
        path="onnx/model_quantized.onnx",
        providers=("CPUExecutionProvider",),
        threads=1,
        batch=1,
        min_ms=1.0,
        median_ms=1.0,
        p95_ms=1.0,
        peak_rss_mb=None,
        size_mb=6.0,
        ratio_to_float=0.5,
        timed_on_its_device=True,
        machine="A processor",
        environment=environment,
    )
    return Manifest(
        files={
            "onnx/a_target.onnx": FileEntry("3" * 64, 6_000_000, Role.LOWERED),
            "onnx/model.onnx": FileEntry("1" * 64, 20_000_000, Role.FLOAT),
            "onnx/model_quantized.onnx": FileEntry("2" * 64, 6_000_000, Role.QUANTIZED),
        },
        default_model="onnx/model.onnx",
        preprocess=PreprocessSpec(
            8, 8, ResizeMode.EXACT, (8, 8), Interpolation.BICUBIC, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        ),
        source=SourceRecord("toy", "0" * 64),
        tools={"vit-edge": "0.1.0"},
        accuracy=accuracy(90.0, Verdict.PASS) if with_accuracy else None,
        latency=(times,),
    )


def test_a_bundles_figures_are_taken_as_it_records_them() -> None:
    found = tool.measured(manifest())
    judged = accuracy(90.0, Verdict.PASS).report
    assert [file.path for file in found.files] == ["onnx/model.onnx", "onnx/model_quantized.onnx"]
    reference, portable = found.files
    assert (reference.verdict, reference.top1, reference.size_mb) == (None, 90.0, 20.0)
    assert (portable.verdict, portable.agreement, portable.ratio) == (Verdict.PASS, judged.agreement, 0.5)
    assert portable.sqnr_db == judged.logit_sqnr_db
    assert (found.data, found.images, found.machine) == ("toys", 60, MACHINE)


@pytest.mark.parametrize(
    "lacking", [manifest(with_accuracy=False), manifest(environment=None)], ids=["accuracy", "machine"]
)
def test_a_bundle_that_records_no_figures_is_refused(lacking: Manifest) -> None:
    with pytest.raises(ValueError, match="does not record accuracy and machine"):
        tool.measured(lacking)


def test_the_tool_says_in_one_line_what_is_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["record", str(tmp_path), "--slug", "x", "--name", "x", "--licence", "x"]
    assert tool.main(words) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_of_embeddings_the_criteria_stand_in_place_of_an_agreement() -> None:
    file = dataclasses.replace(PORTABLE, top1=None, cosine=0.99816, recall_at_10=85.11)
    versions = dict.fromkeys(("vit-edge", "onnxruntime", "torch"), "1")
    measured = dataclasses.replace(MEASURED, files=(REFERENCE, file), versions=versions)
    known = dataclasses.replace(KNOWN, measured=(measured,))
    (figure,) = known.figures([file.sha256])
    assert "PASS: cosine 0.9982, recall@10 85.1 %, 0.50 of float's time" in figure.told
    assert "| PASS | \N{EN DASH} | cosine 0.9982, recall@10 85.1 % | 25.0 dB |" in tool.page([known])
    assert read_models(to_text((known,))) == (known,)
