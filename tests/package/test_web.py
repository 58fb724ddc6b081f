"""The site in a real browser: its answers beside Python's, its looks, and nothing fetched from elsewhere."""

from pathlib import Path

import pytest

from tests.package.digits import Digits
from tools.check_package.browser import CHROMIUM, Seen, visit
from vit_edge import Classifier
from vit_edge.cli import main
from vit_edge.package.web import web_release
from vit_edge.runtime.evaluate.dataset import list_images

ROLES = {"float": "float", "int8": "quantized"}


@pytest.fixture(scope="module")
def images(digits: Digits) -> list[Path]:
    return list(list_images(digits.images / "test").paths[::8])


@pytest.fixture(scope="module")
def seen(digits: Digits, modules: Path, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    if CHROMIUM is None:
        pytest.skip("needs chromium or chrome")
    site = tmp_path_factory.mktemp("web") / "site"
    words = ["package", str(digits.bundle), "--for", "web", "-o", str(site), "--modules", str(modules)]
    assert main(words) == 0
    return visit(site, images, list(ROLES))


def test_the_site_is_ready_and_complains_of_nothing(seen: Seen) -> None:
    assert seen.result.get("error") is None
    assert seen.result["first"] == "ready"
    assert seen.result["errors"] == []
    assert "CONSOLE" not in seen.log


@pytest.mark.parametrize(("file", "tolerance"), [("float", 0.01), ("int8", 0.05)])
def test_the_label_is_pythons_for_every_image(
    seen: Seen, digits: Digits, images: list[Path], file: str, tolerance: float
) -> None:
    """INT8 here may add products in another arithmetic than a browser, which is exact."""
    classify = Classifier(digits.bundle, threads=1, model=ROLES[file])
    answers = [each for each in seen.result["found"] if each["file"] == file]
    assert len(answers) == len(images) >= 50
    for path, found in zip(images, answers, strict=True):
        expected = {each.label: each.score for each in classify(path, top_k=10)}
        assert found["answers"][0]["label"] == next(iter(expected))
        assert len(found["answers"]) == 5
        for each in found["answers"]:
            assert each["score"] == pytest.approx(expected[each["label"]], abs=tolerance)
            assert each["text"] == f"{100 * each['score']:.1f} %"
        best = found["answers"][0]
        said = f"{path.name}: {best['label']} {best['text']}, "  # which is read aloud
        assert found["text"].startswith(said)
        assert found["text"].endswith(f" ms with the {'INT8' if file == 'int8' else 'float'} model")


def test_recorded_answers_hold_in_the_browser(seen: Seen) -> None:
    state, text = seen.result["checked"]
    assert (state, text) == ("done", "All 6 checks hold: this browser computes what was recorded.")


def test_a_stroke_is_read_as_a_digit(seen: Seen) -> None:
    assert seen.result["drawn"]["text"].startswith("your drawing: ")
    assert seen.result["drawn"]["answers"][0]["label"] == "one"
    assert seen.result["drawn"]["picture"] is False  # which is of another image
    assert seen.result["cleared"] == {"answers": [], "text": "Ready."}


def test_what_is_no_image_is_said_and_leaves_no_answer(seen: Seen) -> None:
    state, text = seen.result["refused"]
    assert state == "failed"
    assert text == "This does not work: notes.txt is no image that this browser can read"


def test_everything_comes_from_the_site_itself(seen: Seen) -> None:
    fetched = [name for name in seen.result["fetched"] if not name.startswith(("blob:", "data:"))]
    assert any(name.endswith(".wasm") for name in fetched)
    assert all(name.startswith("http://127.0.0.1:") and "/site/" in name for name in fetched)


def test_the_site_fits_a_phone_and_a_keyboard_reaches_all_of_it(seen: Seen) -> None:
    assert seen.result["overflow"] == 0
    assert seen.result["bar"]["narrowest"] >= 100  # pixels of 390
    assert seen.result["bar"]["lowest"] >= 8
    assert seen.result["focusable"] is True


def test_without_onnxruntime_web_one_sentence_says_how_to_fetch_it(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["package", str(digits.bundle), "--for", "web", "-o", "site"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"site/ort lacks onnxruntime-web; run: npm pack onnxruntime-web@{web_release().version} && " in err
    assert all(f"package/dist/{name}" in err for name in web_release().files)
    assert not Path("site/ort").exists()
