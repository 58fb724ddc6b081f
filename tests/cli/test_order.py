"""Where options may stand: before, behind and among the names that a command takes."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge.cli import main

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "tests" / "data" / "dynamic.onnx")
DEMO = ROOT / "tools" / "demo"

Output = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of noise in the current folder, one with a name like an option's."""
    random = np.random.default_rng(4)
    for name in ("a.png", "-b.png"):
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "words",
    [
        [TINY, "a.png", "--top", "1", "--threads", "1"],
        ["--top", "1", "--threads", "1", TINY, "a.png"],
        [TINY, "--top", "1", "a.png", "--threads", "1"],
        ["--top", "1", TINY, "--threads", "1", "a.png"],
        [TINY, "--threads", "1", "--top=1", "--", "a.png"],
    ],
)
def test_options_may_stand_before_behind_and_among_a_model_and_its_images(
    words: Sequence[str], capsys: Output
) -> None:
    assert main(["classify", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.png"
    assert len(lines) == 2


@pytest.mark.usefixtures("images")
def test_images_may_stand_on_both_sides_of_an_option(capsys: Output) -> None:
    assert main(["classify", TINY, "a.png", "--top", "1", "./-b.png"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if ".png" in line] == ["a.png", "./-b.png"]


@pytest.mark.usefixtures("images")
def test_behind_two_dashes_everything_is_an_image(capsys: Output) -> None:
    assert main(["classify", TINY, "--top", "1", "--", "-b.png"]) == 0
    assert "-b.png" in capsys.readouterr().out
    assert main(["classify", TINY, "--", "--top"]) == 2
    assert "--top" in capsys.readouterr().err


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", TINY, "--top", "1", "a.png", "--nope"], "unrecognized arguments: --nope"),
        (["classify", "--top", "1"], "the following arguments are required"),
        (["classify", TINY, "--top", "one", "a.png"], "argument --top"),
        (["bench", "--threads", "1"], "the following arguments are required: MODEL"),
        (["compare", TINY, "--data", ".", TINY, "a.png"], "unrecognized arguments: a.png"),
    ],
)
def test_what_is_wrong_is_still_told_in_one_line(words: Sequence[str], said: str, capsys: Output) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_models_may_stand_on_both_sides_of_an_option(capsys: Output) -> None:
    assert main(["bench", TINY, "--threads", "1", "--seconds", "0.01", TINY]) == 0
    assert capsys.readouterr().out.count("dynamic.onnx") == 2


def test_the_demo_of_the_first_page_runs_to_its_end(tmp_path: Path) -> None:
    """Its status is the verdict of the build, 0 or 3: whether 414 images decide it depends on one of them."""
    place = ROOT / ".venv"
    if not (place / ".installed-dev").exists():
        pytest.skip("needs the environment that tools/venv makes")
    done = subprocess.run(
        [str(shutil.which("bash")), str(DEMO), str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    assert "== the bundle, ready to be copied to a device" in done.stdout
    assert done.stdout.count(".png") == 3
