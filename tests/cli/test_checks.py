"""What a command names is checked before torch is imported; options are called what the user calls them."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge.cli import checks, main
from vit_edge.cli.convert import reached
from vit_edge.cli.entry import COMMANDS, parser
from vit_edge.cli.parser import CommandParser
from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.files import SUFFIXES
from vit_edge.manifest import Method
from vit_edge.runtime.image.limits import DEFAULT_LIMITS

ROOT = Path(__file__).resolve().parents[2]


def folder_of(tmp_path: Path, count: int) -> Path:
    """So many images of noise."""
    folder = tmp_path / f"images{count}"
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["build", "absent.safetensors", "--calib", "{images}", "-o", "new"],
        ["build", "models/digits_vit", "--calib", "absent", "-o", "new"],
        ["build", "models/digits_vit", "--calib", "{images}", "--data", "absent", "-o", "new"],
        ["build", "models/digits_vit", "--calib", "{images}", "-o", "tests"],
        ["quantize", "models/digits_vit", "--calib", "{images}", "-o", "absent/new.onnx"],
        ["export", "models/digits_vit", "--labels", "absent", "-o", "new.onnx"],
        ["optimize", "tests/data/dynamic.onnx", "--calib", "absent", "-o", "new.onnx"],
        ["parity", "models/digits_vit", "{images}", "--data", "absent"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_missing_is_refused_before_torch_is_imported(words: list[str], tmp_path: Path) -> None:
    words = [word.format(images=folder_of(tmp_path, 1)) if "{" in word else word for word in words]
    code = (
        f"import sys; sys.modules['torch'] = None; from vit_edge.cli import main; sys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2, done.stderr
    assert "torch" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_sources_that_are_files_are_those_that_can_be_read() -> None:
    assert set(checks.SOURCE_SUFFIXES) == {*SUFFIXES, ".onnx"}


@pytest.mark.parametrize(
    "text", ["google/vit-base-patch16-224", "timm:vit_tiny_patch16_224", "mine:model", "x"]
)
def test_names_that_are_no_files_are_left_to_who_resolves_them(text: str) -> None:
    checks.check_source(text)


@pytest.mark.parametrize("text", ["w.onnx", "timm:vit_tiny_patch16_224@w.pth", "folder/w.safetensors"])
def test_a_file_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match=r"w\.\w+ does not exist; check the path of SOURCE"):
        checks.check_source(text)


@pytest.mark.parametrize(
    ("count", "most", "note"),
    [
        (1, 128, "saw 1 image only"),
        (15, 128, "saw 15 images only"),
        (20, 1, "saw 1 image only"),
        (16, 128, None),
    ],
)
def test_few_calibration_images_are_warned_of(
    tmp_path: Path, count: int, most: int, note: str | None
) -> None:
    found = checks.few_images(folder_of(tmp_path, count), most, DEFAULT_LIMITS)
    assert len(found) == (note is not None)
    assert note is None or note in found[0]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("max_drop must be above 0", "--max-drop must be above 0"),
        ("batch_size must be at least 1", "--batch must be at least 1"),
        ("seed must be 0 or more", "--seed must be 0 or more"),
        ("images must be at least 1", "--calib-images must be at least 1"),
        ("crop_pct and max_drop differ", "--crop-pct and --max-drop differ"),
        ("/data/max_drop/x does not exist", "/data/max_drop/x does not exist"),
        ("max_drop.onnx does not exist", "max_drop.onnx does not exist"),
        ("the seed must be 0", "the seed must be 0"),
        ("seed images are odd", "seed images are odd"),
    ],
)
def test_settings_are_called_by_their_options(message: str, shown: str) -> None:
    parser = CommandParser(prog="x")
    parser.add_argument("--max-drop")
    parser.add_argument("--crop-pct")
    parser.add_argument("--seed")
    parser.add_argument("--batch", dest="batch_size")
    parser.add_argument("--calib-images", dest="images")
    assert parser.dashed(message) == shown


def test_an_argument_is_called_what_the_user_wrote() -> None:
    parser = CommandParser(prog="x")
    parser.add_argument("-o", "--out")
    parser.add_argument("source", metavar="SOURCE")
    assert [parser.option_of(name) for name in ("out", "source", "other")] == ["--out", "SOURCE", "other"]


def choices(command: str | None = None) -> dict[str, argparse.ArgumentParser]:
    found = next(
        each for each in parser(command)._actions if isinstance(each, argparse._SubParsersAction)
    ).choices
    return dict(found)


def test_every_command_can_be_quiet() -> None:
    for command in choices().values():
        assert "--quiet" in command.format_help()


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_is_found_without_the_modules_of_the_others(module: str) -> None:
    for command in COMMANDS[module]:
        assert tuple(choices(command)) == COMMANDS[module]


@pytest.mark.parametrize("word", [None, "--help", "no-such-command"])
def test_without_a_known_command_all_are_listed(word: str | None) -> None:
    assert tuple(choices(word)) == tuple(name for names in COMMANDS.values() for name in names)


def test_a_short_command_imports_no_module_of_the_others() -> None:
    script = "import sys; from vit_edge.cli.entry import parser; parser('sign'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "vit_edge.cli.sign" in run.stdout.split()
    assert not {"vit_edge.cli.build", "vit_edge.cli.jobs", "vit_edge.verify"} & set(run.stdout.split())


@pytest.mark.parametrize(
    ("aimed", "shown"),
    [(24.0, "24.6 dB on 32 calibration images, aimed at 24.0 dB"), (None, "24.6 dB on 32")],
)
def test_quantize_says_how_close_it_came(aimed: float | None, shown: str) -> None:
    recipe = Method(
        preset="balanced",
        calibration_images=128,
        probe_images=32,
        weights="",
        activations="",
        static_ranges={},
        folds=(),
        target_db=aimed,
        bias_correction=True,
        probe_db=24.6,
    )
    assert f"logit SQNR {shown}" in reached(recipe)


def test_quantize_prints_its_ratio_and_quietly_no_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quantize", str(ROOT / "models" / "digits_vit"), "--calib", str(folder_of(tmp_path, 2))]
    assert main([*words, "--preset", "static", "--quiet", "-o", str(tmp_path / "q.onnx")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    note, ratio, last = [line for line in out.splitlines() if not line.startswith("note: pixels")]
    assert "calibration saw 2 images only" in note
    assert ratio.startswith("logit SQNR ")
    assert last.endswith(" MB")
