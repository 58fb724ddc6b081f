"""The command line on tiny models: exit statuses, one-line errors, stable JSON keys."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge import __version__
from vit_edge.cli import console, main
from vit_edge.runtime.predict import classifier
from vit_edge.targets import list_targets

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "dynamic.onnx"  # classes ant, bee and cat, images of 8x8
DIGITS = ROOT / "models" / "digits_vit"

COMPARE_KEYS = [
    "n",
    "top1_float",
    "top1_quant",
    "top5_float",
    "top5_quant",
    "drop",
    "drop_ci95",
    "agreement",
    "logit_sqnr_db",
    "verdict",
    "images_needed",
    "worst_classes",
    "evidence",
]
BENCH_KEYS = [
    "path",
    "providers",
    "threads",
    "batch",
    "min_ms",
    "median_ms",
    "p95_ms",
    "peak_rss_mb",
    "size_mb",
]

Output = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve images of noise in folders named by class."""
    random = np.random.default_rng(4)
    for name in ("ant", "bee", "cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


@pytest.fixture
def image(images: Path) -> str:
    return str(images / "ant" / "0.png")


def error_of(capsys: Output) -> str:
    """The one line on standard error; nothing may be on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vit-edge: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "internal error" not in err
    return err.removeprefix("vit-edge: error: ").strip()


def test_classify_names_the_classes(image: str, capsys: Output) -> None:
    assert main(["classify", str(TINY), image, image, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0] == image
    assert lines[1].split()[-1] in {"ant", "bee", "cat"}


@pytest.mark.parametrize("form", ["tiff", "GIF", "jpeg2000", "avif", "ppm"])
def test_classify_takes_another_format_where_it_is_allowed(
    tmp_path: Path, photo: np.ndarray, form: str, capsys: Output
) -> None:
    path = tmp_path / "photo"
    Image.fromarray(photo).save(path, form)
    assert main(["classify", str(TINY), str(path)]) == 2
    refusal = capsys.readouterr().err
    assert "no JPEG, PNG, WebP or BMP image; convert it, or allow its format with --allow-format" in refusal
    assert main(["classify", str(TINY), str(path), "--allow-format", "png", "--allow-format", form]) == 0
    assert main(["embed", str(TINY.with_name("embedder.onnx")), str(path), "--allow-format", form]) == 0


def test_compare_reads_the_formats_that_are_allowed(
    tmp_path: Path, photo: np.ndarray, capsys: Output
) -> None:
    for name in ("a.tif", "b.TIFF", "c.png"):
        Image.fromarray(np.roll(photo, len(name), axis=0)).save(tmp_path / name)
    words = [
        "compare",
        str(TINY),
        str(TINY),
        "--self",
        "--data",
        str(tmp_path),
        "--json",
        str(tmp_path / "out.json"),
    ]
    for more, count in (([], 1), (["--allow-format", "tiff"], 3)):
        assert main([*words, *more]) in (0, 3), capsys.readouterr().err
        assert json.loads((tmp_path / "out.json").read_text())["evidence"]["images_available"] == count


def test_classify_prints_json(image: str, capsys: Output) -> None:
    assert main(["classify", str(TINY), image, "--json", "--top", "3"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert list(answer) == ["image", "predictions"]
    assert [list(each) for each in answer["predictions"]] == [["label", "score", "index"]] * 3
    assert sum(each["score"] for each in answer["predictions"]) == pytest.approx(1)


def test_a_bad_image_is_reported_and_the_others_are_classified(
    image: str, tmp_path: Path, capsys: Output
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    assert main(["classify", str(TINY), str(bad), image, "--top", "1"]) == 2
    out, err = capsys.readouterr()
    assert image in out
    assert err.startswith(f"vit-edge: error: {bad}")
    assert main(["classify", str(TINY), str(bad), image, "--json"]) == 2
    assert [sorted(each) for each in json.loads(capsys.readouterr().out)] == [
        ["error", "image"],
        ["image", "predictions"],
    ]


def test_compare_writes_exactly_the_stable_keys(images: Path, tmp_path: Path, capsys: Output) -> None:
    report = tmp_path / "report.json"
    status = main(["compare", str(TINY), str(TINY), "--self", "--data", str(images), "--json", str(report)])
    figures = json.loads(report.read_text())
    assert list(figures) == COMPARE_KEYS
    assert (figures["n"], figures["agreement"], figures["logit_sqnr_db"]) == (12, 100.0, None)
    assert (status, figures["verdict"]) == (3, "UNDECIDED")
    out, err = capsys.readouterr()
    assert "UNDECIDED" in out
    assert err == "compare (12)\n"


@pytest.mark.parametrize(
    ("options", "status", "verdict"),
    [
        (["--max-drop", "100"], 0, "PASS"),
        (["--max-drop", "1"], 3, "UNDECIDED"),
        (["--max-drop", "1", "--limit", "3"], 3, "UNDECIDED"),
    ],
)
def test_the_exit_status_is_the_verdict(
    images: Path, capsys: Output, options: list[str], status: int, verdict: str
) -> None:
    assert main(["compare", str(TINY), str(TINY), "--self", "--data", str(images), *options]) == status
    assert (
        f"verdict        {verdict}".split()
        == capsys.readouterr().out.split("\n")[-3 if status else -2].split()[:2]
    )


def test_a_model_that_answers_otherwise_fails(images: Path, tmp_path: Path, capsys: Output) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(TINY)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    head.CopyFrom(numpy_helper.from_array(np.array([-50, -50, 50], np.float32), "bias"))
    onnx.save(model, tmp_path / "biased.onnx")
    unlabelled = images / "ant"
    for index, folder in enumerate(["bee", "cat"]):
        for path in (images / folder).iterdir():
            path.rename(unlabelled / f"{index}{path.name}")
    reference = tmp_path / "other.onnx"
    head.CopyFrom(numpy_helper.from_array(np.array([50, -50, -50], np.float32), "bias"))
    onnx.save(model, reference)
    command = ["compare", str(reference), str(tmp_path / "biased.onnx"), "--data", str(unlabelled)]
    assert main(command) == 1
    assert "FAIL" in capsys.readouterr().out


def test_bench_writes_exactly_the_stable_keys(tmp_path: Path, capsys: Output) -> None:
    report = tmp_path / "report.json"
    command = ["bench", str(TINY), "--seconds", "0", "--rounds", "2", "--threads", "1", "--json", str(report)]
    assert main(command) == 0
    figures = json.loads(report.read_text())
    assert list(figures) == ["models", "machine"]
    assert list(figures["models"][0]) == BENCH_KEYS
    assert main([command[0], str(TINY), *command[1:]]) == 0
    figures = json.loads(report.read_text())
    assert list(figures) == ["models", "machine", "ratio_to_first", "ratio_intervals"]
    assert figures["ratio_intervals"] == [None, None], "two rounds are too few for an interval"
    assert len(figures["ratio_to_first"]) == 2
    assert "ms" in capsys.readouterr().out


def test_targets_lists_every_target(capsys: Output) -> None:
    assert main(["targets"]) == 0
    out = capsys.readouterr().out
    assert [name for name in list_targets() if f"\n{name} " not in out] == []
    assert "\nNot here, because:\n" in out
    assert "pip install" in out
    assert "--target auto takes " in out


def test_targets_shows_one_in_full(capsys: Output) -> None:
    assert main(["targets", "cpu-x86-avx2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cpu-x86-avx2 (x86-64 with AVX2): ")
    assert "uint8" in out
    assert "onnxruntime" in out


def test_targets_in_json_say_what_is_available_and_why_not(capsys: Output) -> None:
    assert main(["targets", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(found) == set(list_targets())
    assert (found["cpu"]["available"], found["cpu"]["reasons"]) == (True, [])
    assert found["wasm"]["available"] is False
    assert found["wasm"]["reasons"]
    assert found["cpu"]["verification"][0]["state"] == "verified"


def test_a_target_of_ones_own_is_shown_and_a_bad_one_refused(tmp_path: Path, capsys: Output) -> None:
    board = tmp_path / "camera.toml"
    own = 'title = "Camera"\ndescription = "Ours."\n[[verification]]\nstate = "unverified"\nwhat = "New."\n'
    board.write_text(f'inherits = "cpu"\n{own}')
    assert main(["targets", str(board)]) == 0
    assert capsys.readouterr().out.startswith("camera (Camera): Ours.")
    board.write_text(f'inherits = "cpu"\ncolour = 1\n{own}')
    assert main(["targets", str(board)]) == 2
    assert "unknown key 'colour'" in capsys.readouterr().err


def test_quantize_for_auto_says_what_it_took_and_why(images: Path, tmp_path: Path, capsys: Output) -> None:
    words = ["quantize", str(DIGITS), "--calib", str(images), "--calib-images", "2", "--preset", "fast"]
    assert main([*words, "--target", "auto", "-o", str(tmp_path / "q.onnx")]) == 0
    assert re.search(r"^target [\w-]+: the best that fits ", capsys.readouterr().out, re.MULTILINE)


def test_export_optimize_and_inspect_work_on_each_others_files(tmp_path: Path, capsys: Output) -> None:
    first, second = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    assert main(["export", str(DIGITS), "-o", first]) == 0
    assert "same as torch" in capsys.readouterr().out
    assert main(["optimize", first, "-o", second, "--input", "pixels", "--batch", "2"]) == 0
    assert "canonical ViT: 4 layers" in capsys.readouterr().out
    assert main(["inspect", second]) == 0
    out = capsys.readouterr().out
    assert "pixels uint8 [2, 32, 32, 3]" in out
    assert "10: zero, one, two, three, four, ..." in out


def test_inspect_describes_a_source(capsys: Output) -> None:
    assert main(["inspect", str(DIGITS)]) == 0
    out = capsys.readouterr().out
    assert "4 layers, width 96" in out
    assert "digits_vit (huggingface)" in out


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["--version"]])
def test_help_and_version_are_printed(words: list[str], capsys: Output) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(("usage: vit-edge", f"vit-edge {__version__}"))


REFUSALS = [
    ([], "the following arguments are required: COMMAND; see vit-edge --help"),
    (["fly"], "invalid choice: 'fly'"),
    (
        ["compare", "{tiny}"],
        "the following arguments are required: QUANT, --data; see vit-edge compare --help",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--max-drop", "zero"],
        "'zero' is not a number",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--max-drop", "nan"],
        "'nan' is not a number",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--max-drop", "0"],
        "error: --max-drop must be above 0",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--confidence", "1"],
        "error: --confidence must lie between",
    ),
    (["compare", "{tiny}", "{tiny}", "--self", "--data", "absent"], "absent does not exist"),
    (["compare", "{tiny}", "absent.onnx", "--data", "{images}"], "absent.onnx does not exist"),
    (["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--limit", "0"], "cannot take 0 images"),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--batch", "0"],
        "error: --batch must be at least 1",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--threads", "0"],
        "error: --threads must be from 1",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--provider", "tpu"],
        "'tpu' is not installed",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--class-ids", "absent"],
        "--class-ids absent does not exist",
    ),
    (
        ["compare", "{tiny}", "{tiny}", "--self", "--data", "{images}", "--json", "no/such/f"],
        "--json no/such/f cannot",
    ),
    (["compare", "{images}", "{tiny}", "--data", "{images}"], "without vit_edge.json"),
    (["bench"], "the following arguments are required: MODEL"),
    (["bench", "absent.onnx"], "absent.onnx does not exist"),
    (["bench", "{tiny}", "--rounds", "0"], "error: --rounds must be 1"),
    (["bench", "{tiny}", "--seconds", "-1"], "error: --seconds must be 0"),
    (["bench", "{tiny}", "--batch", "0"], "error: --batch must be at least 1"),
    (["classify", "{tiny}"], "the following arguments are required: IMAGE"),
    (["classify", "absent", "x.png"], "absent does not exist"),
    (["classify", "{tiny}", "x.png", "--top", "0"], "error: --top must be at least 1"),
    (["classify", "{tiny}", "x.png", "--top", "many"], "invalid int value: 'many'"),
    (["classify", "{tiny}", "x.png", "--allow-format", "heic"], "'heic' is none of jpeg, png, webp"),
    (["inspect", "absent.onnx"], "absent.onnx does not exist"),
    (["inspect", "absent"], "absent does not exist"),
    (["export", "absent.safetensors", "-o", "{new}"], "absent.safetensors does not exist"),
    (["export", "timm:vit_tiny@absent.pth", "-o", "{new}"], "absent.pth does not exist"),
    (["export", "{digits}", "-o", "{new}", "--labels", "{images}"], "is a folder; name the file itself"),
    (["export", "{digits}"], "the following arguments are required: -o/--out"),
    (
        ["export", "{digits}", "-o", "no/such/folder/x.onnx"],
        "-o no/such/folder/x.onnx cannot be written: name a file in a folder",
    ),
    (["export", "{digits}", "-o", "{images}"], "cannot be written: name a file in a folder"),
    (["export", "absent/model", "-o", "{new}"], "absent/model is no local path"),
    (["export", "{digits}", "-o", "{new}", "--batch", "0"], "error: --batch must be 1"),
    (["export", "{digits}", "-o", "{new}", "--mean", "1", "2"], "expected 3 arguments"),
    (["export", "{digits}", "-o", "{new}", "--std", "1", "0", "1"], "error: --std must be positive"),
    (["export", "{digits}", "-o", "{new}", "--image-size", "big"], "neither a size such as 224"),
    (
        ["export", "{digits}", "-o", "{new}", "--interpolation", "cubic"],
        "argument --interpolation: 'cubic' is none of nearest",
    ),
    (["export", "{digits}", "-o", "{new}", "--crop-pct", "2"], "error: --crop-pct must be above 0"),
    (["export", "{digits}", "-o", "{new}", "--labels", "absent.txt"], "--labels absent.txt does not exist"),
    (["export", "os:getcwd", "-o", "{new}"], "set --trust-code if it is yours"),
    (["optimize", "absent.onnx", "-o", "{new}"], "absent.onnx does not exist"),
    (["optimize", "{tiny}", "-o", "{new}"], "is not a canonical ViT"),
    (["optimize", "{tiny}", "-o", "{new}", "--input", "jpeg"], "invalid choice: 'jpeg'"),
    (["quantize", "{tiny}", "--calib", "{images}", "-o", "{new}"], "is not a canonical ViT"),
    (["quantize", "{tiny}", "--calib", "{images}", "-o", "{tiny}"], "is the model to quantize"),
    (
        ["quantize", "{tiny}", "--calib", "{images}", "-o", "{new}", "--target", "abacus"],
        "unknown target 'abacus'",
    ),
    (
        ["quantize", "{tiny}", "--calib", "absent", "-o", "{new}", "--preset", "best"],
        "invalid choice: 'best'",
    ),
    (["build", "{digits}", "-o", "{new}"], "the following arguments are required: --calib"),
    (["build", "{digits}", "--calibration", "d", "-o", "{new}"], "unrecognized arguments: --calibration"),
    (["verify", "--keys=k"], "unrecognized arguments: --keys"),
    (["build", "{digits}", "-o", "{new}", "--calib", "absent"], "absent does not exist"),
    (
        ["build", "{digits}", "-o", "{new}", "--calib", "{images}", "--calib-images", "0"],
        "error: --calib-images must be at least 1",
    ),
    (
        ["build", "{digits}", "-o", "{new}", "--calib", "{images}", "--target", "abacus"],
        "unknown target 'abacus'",
    ),
    (["build", "{digits}", "-o", "{images}", "--calib", "{images}"], "is no bundle; choose another output"),
    (
        ["build", "{digits}", "-o", "{new}", "--calib", "{images}", "--data", "{images}"],
        "match none of the model",
    ),
    (
        ["build", "{digits}", "-o", "{new}", "--calib", "{images}", "--data", "absent"],
        "--data: absent does not exist",
    ),
    (["quantize", "{digits}", "-o", "{new}", "--calib", "{tiny}"], "--calib: "),
]


@pytest.mark.parametrize(("words", "cause"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_bad_input_is_refused_in_one_line_and_writes_nothing(
    images: Path, tmp_path: Path, capsys: Output, words: list[str], cause: str
) -> None:
    places = {"tiny": TINY, "images": images, "digits": DIGITS, "new": tmp_path / "new.onnx"}
    before = sorted(tmp_path.rglob("*"))
    assert main([word.format(**places) for word in words]) == 2
    assert cause in f"error: {error_of(capsys)}"
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_names_its_file_in_one_line_whatever_the_name_holds(tmp_path: Path, capsys: Output) -> None:
    assert main(["classify", str(tmp_path / "two\nlines\x1b[31m.onnx"), "x.png"]) == 2
    assert "two lines [31m.onnx does not exist" in error_of(capsys)


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        main(["classify", "absent.onnx", "x.png", "--debug"])


def test_an_error_of_our_own_says_so_without_a_traceback(
    image: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier.Classifier, "batch", lambda *_, **__: 1 / 0)
    assert main(["classify", str(TINY), image]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vit-edge: error: internal error, please report it (ZeroDivisionError")
    assert err.count("\n") == 1


def test_an_interrupt_ends_with_130(image: str, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier.Classifier, "batch", interrupt)
    assert main(["classify", str(TINY), image]) == 130
    assert capsys.readouterr().err == "vit-edge: interrupted\n"


def in_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )


WITHOUT_HOST = """
import sys
for name in ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm"): sys.modules[name] = None
from vit_edge.cli import main
"""


@pytest.mark.parametrize(
    "words",
    [
        ["build", "models/digits_vit", "--calib", "{images}", "-o", "new"],
        ["export", "models/digits_vit", "-o", "new.onnx"],
        ["optimize", "tests/data/dynamic.onnx", "-o", "new.onnx"],
        ["quantize", "tests/data/dynamic.onnx", "--calib", "{images}", "-o", "new.onnx"],
        ["inspect", "tests/data/dynamic.onnx"],
        ["inspect", "models/digits_vit"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_without_the_host_packages_their_commands_say_what_to_install(words: list[str], images: Path) -> None:
    words = [word.format(images=images) for word in words]
    result = in_process(f"{WITHOUT_HOST}sys.exit(main({words!r}))")
    assert result.returncode == 2
    assert result.stderr.endswith(" is not installed; run: pip install 'vit-edge[host]'\n")
    assert result.stderr.count("\n") == 1


def test_without_the_host_packages_the_device_commands_work(images: Path) -> None:
    tiny, folder = "tests/data/dynamic.onnx", str(images)
    commands = [
        ["classify", tiny, str(images / "ant" / "0.png")],
        ["compare", tiny, tiny, "--self", "--data", folder],
        ["bench", tiny, "--rounds", "1", "--seconds", "0"],
        ["targets"],
    ]
    result = in_process(f"{WITHOUT_HOST}print([main(words) for words in {commands!r}])")
    assert result.stdout.splitlines()[-1] == "[0, 3, 0, 0]", result.stderr


def test_a_reader_who_has_seen_enough_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "vit_edge", "targets"],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_label_does_not_break_a_terminal_without_unicode(tmp_path: Path, image: str) -> None:
    import onnx

    model = onnx.load(TINY)
    labels = next(entry for entry in model.metadata_props if entry.key == "vit_edge.labels")
    labels.value = json.dumps(["鯉\x1b[2J", "bee", "cat"])
    onnx.save(model, tmp_path / "m.onnx")
    words = ["classify", str(tmp_path / "m.onnx"), image]
    code = f"import sys; from vit_edge.cli import main; sys.exit(main({words!r}))"
    result = in_process(code, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "\\u9bc9 [2J" in result.stdout


class Terminal:
    """A standard error that says it is a terminal."""

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress() as tell:
        tell("calibrate", 1, 4)
        tell("check", 2, 2)
    assert "calibrate:  25%" in terminal.written
    assert "\r" in terminal.written


def test_progress_is_a_line_for_each_step_elsewhere(capsys: Output) -> None:
    with console.progress() as tell:
        for done in range(1001):
            tell("calibrate", done, 1000)
        tell("report", 0, 1)
        tell("report", 1, 1)
    assert capsys.readouterr().err.splitlines() == ["calibrate (1000)", "report"]


def test_progress_is_silent_where_it_is_to_be(capsys: Output) -> None:
    with console.progress(quiet=True) as tell:
        tell("calibrate", 0, 1000)
    assert capsys.readouterr().err == ""
