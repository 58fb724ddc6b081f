"""Every command of the pages, run on the embedded model; every example, run on its bundle."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.end_to_end.digits import Built
from tests.host.dense_models import STATED, dense_onnx
from tests.host.family_folders import tower_folder
from tests.host.yolos import yolos_onnx
from tests.pages import ROOT, Command, commands
from tools import canvases
from tools.digits_dense import load, write_onnx
from vit_edge.cli import main
from vit_edge.package.web import web_release

EXAMPLES = ROOT / "examples"
DONE, FAIL, UNDECIDED = 0, 1, 3

# What the pages leave for the reader to fill in, and what it is here.
PLACES = {
    "SOURCE": "digits_vit",
    "BUNDLE": "bundle/",
    "DIR": "validation/",
    "MODEL": "float.onnx",
    "FLOAT": "float.onnx",
    "INT8": "int8.onnx",
    "FILE": "written.json",
    "FILE.onnx": "float.onnx",
    "FILE.html": "written.html",
    "KEY": "key.pem",
    "pi/": "bundle/",  # built by the command before it
    "pi/onnx/model.onnx": "bundle/onnx/model.onnx",
}
PLACES_OF = {"detect": "boxes_int8.onnx", "segment": "maps.onnx", "embed": "embedder.onnx"}
ABBREVIATED = "..."  # a command that is shown in part only


@pytest.fixture(scope="module")
def workplace(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds whatever the commands speak of."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "models" / "digits_vit", folder / "digits_vit")
    shutil.copytree(built.bundle, folder / "bundle")
    private = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pub").write_bytes(public)
    for board in re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "add-a-target.md").read_text(), re.S):
        (folder / "boards").mkdir()
        (folder / "boards" / "camera.toml").write_text(textwrap.dedent(board))
    embedder = ["export", str(folder / "digits_vit"), "--embedder", "-o", str(folder / "embedder.onnx")]
    assert main(embedder) == DONE
    attention = ["export", str(folder / "digits_vit"), "--attention", "-o", str(folder / "attention.onnx")]
    assert main(attention) == DONE
    shutil.copy(folder / "attention.onnx", folder / "attention_int8.onnx")
    tower_folder(folder / "clip_folder", "clip")
    (folder / "dense.onnx").write_bytes(dense_onnx("decoder").SerializeToString())
    canvases.write(folder / "digits", 16, 24)
    write_onnx(load(), folder / "digits")
    (folder / "yolos.onnx").write_bytes(yolos_onnx().SerializeToString())
    boxes = ["optimize", str(folder / "yolos.onnx"), "-o", str(folder / "boxes.onnx"), *STATED]
    assert main([*boxes, "--allow-uncanonical"]) == DONE
    (folder / "cells.txt").write_text("red\nwhite\nplatelet\n")
    again = [*boxes[:3], str(folder / "boxes_int8.onnx"), *STATED, "--labels", str(folder / "cells.txt")]
    assert main([*again, "--allow-uncanonical"]) == DONE
    maps = ["optimize", str(folder / "dense.onnx"), "-o", str(folder / "maps.onnx")]
    assert main([*maps, *STATED]) == DONE
    (folder / "reports").mkdir()
    assert main(["selftest", str(folder / "bundle"), "--json", str(folder / "reports" / "here.json")]) == DONE
    (folder / "node_modules" / "onnxruntime-web" / "dist").mkdir(parents=True)
    for name in web_release().files:
        (folder / "node_modules" / "onnxruntime-web" / "dist" / name).write_bytes(b"not run here")
    (folder / "labels.txt").write_text("cat\ndog\nfox\n")
    few_of_each(built.images / "calibration", folder / "images", 4)
    (folder / "boxes.json").write_text(json.dumps(_some_boxes(folder / "images")))
    few_of_each(built.images / "test", folder / "validation", 6)
    image = next((folder / "validation").rglob("*.png"))
    shutil.copy(image, folder / "image.jpg")  # its content is looked at, not its name
    for name, path in (("float", "model"), ("int8", "model_quantized"), ("model", "model")):
        shutil.copy(built.bundle / "onnx" / f"{path}.onnx", folder / f"{name}.onnx")
    return folder


def few_of_each(images: Path, folder: Path, count: int) -> None:
    """The first images of every class, which are enough to run a command."""
    for kind in images.iterdir():
        (folder / kind.name).mkdir(parents=True)
        for image in sorted(kind.iterdir())[:count]:
            shutil.copy(image, folder / kind.name)


def _some_boxes(images: Path) -> dict[str, list[dict[str, object]]]:
    """A box in each of a few images, in COCO's form."""
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))[:8]]
    return {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 0, "name": "red"}],
        "annotations": [
            {"image_id": number, "category_id": 0, "bbox": [8, 8, 16, 16]} for number in range(len(names))
        ],
    }


def _interrupted() -> None:
    raise KeyboardInterrupt


def shown(command: Command) -> str:
    return " ".join(command.words)


def distinct(first: str) -> list[Command]:
    """Each command once, however many pages show it; those shown in part left out."""
    once = {command.words: command for command in commands(first) if ABBREVIATED not in command.words}
    return list(once.values())


def _need_engine(words: list[str]) -> None:
    if "--engine" in words and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray; tests/cli/test_job_on_ray.py runs such a job where it is")


def _for_the_model_here(words: list[str]) -> None:
    """The bundle knows classes alone, and the model has few tokens: other files, fewer to merge."""
    if words[0] in PLACES_OF and words[1:2] in (["bundle/"], ["embedder.onnx"]):
        words[1] = PLACES_OF[words[0]]
    if "--merge-tokens" in words:
        words[words.index("--merge-tokens") + 1] = "2"


@pytest.mark.parametrize("command", distinct("vit-edge"), ids=shown)
def test_every_command_of_the_pages_runs(
    command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    words = [PLACES.get(word, word) for word in command.words[1:]]
    for kind in ("csv", "jsonl", "npy"):  # a job goes on with results of its own
        for left in workplace.glob(f"*.{kind}*"):
            left.unlink()
    for number in (1, 2):  # what `merge` joins
        part = ["classify", "bundle/", "--dir", "images/", "-o", f"{number}.csv", "--shard", f"{number}/2"]
        assert words[0] != "merge" or main(part) == DONE
    _need_engine(words)
    if words[0] == "package":  # which replaces nothing
        shutil.rmtree(workplace / words[-1], ignore_errors=True)
    if words[0] == "web" and "--serve" in words:  # until Ctrl-C, which comes at once; on a port that is free
        words += ["--port", "0"]
        monkeypatch.setattr("vit_edge.cli.package.until_stopped", _interrupted)
    words = [
        str(path) for word in words for path in (sorted(workplace.glob(word)) if "*" in word else [word])
    ]
    _for_the_model_here(words)
    if words[0] == "export" and "model.onnx" in words:
        (workplace / "model.onnx").unlink(missing_ok=True)
    if len(words) < 2 and words[0] != "targets":
        words.append("--help")  # a command is spoken of, not told to be typed
    if words[0] == "build":
        words += ["--preset", "static", *([] if "--merge-tokens" in words else ["--repair", "never"])]
    assert main(words) in (DONE, FAIL, UNDECIDED), f"{command} does not run"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("classify_folder.py", ["bundle", "validation"], "file,label,score,error"),
        ("similar_images.py", ["embedder.onnx", "validation", "image.jpg"], "1.0000  "),
        ("watch_camera.py", ["bundle", ".", "2"], "image.jpg: "),
    ],
)
def test_every_example_runs(name: str, words: list[str], expected: str, workplace: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert expected in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_example_says_how_it_is_started(name: str) -> None:
    first = (EXAMPLES / name).read_text().splitlines()[0]
    assert f"python {name} " in first
