"""`vit-edge embed`: lines for a reader, JSON lines and arrays for a program, one line for what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_edge import Embedder
from vit_edge.cli import main

DATA = Path(__file__).resolve().parents[1] / "data"
TINY = str(DATA / "embedder.onnx")  # D = 6, a grid of 2 x 2
KINDS = {"cls": (6,), "pooled": (6,), "patches": (2, 2, 6)}

Output = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path, photo: np.ndarray) -> list[str]:
    paths = [tmp_path / "é one.png", tmp_path / "two.png"]
    for shift, path in enumerate(paths):
        Image.fromarray(np.roll(photo, shift, axis=0)).save(path)
    return [str(path) for path in paths]


def test_a_reader_sees_every_embedding_of_every_image(images: list[str], capsys: Output) -> None:
    assert main(["embed", TINY, *images]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == images
    assert [line.split()[0] for line in lines[1:4]] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_json_is_one_object_per_line_with_the_values(images: list[str], kind: str, capsys: Output) -> None:
    assert main(["embed", TINY, *images, "--json", "--kind", kind]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["image"] for answer in answers] == images
    embed = Embedder(TINY)
    for answer in answers:
        assert list(answer) == ["image", kind]
        expected = getattr(embed(answer["image"]), kind)
        np.testing.assert_allclose(answer[kind], expected, atol=1e-6, rtol=0)


def test_arrays_keep_names_and_order(images: list[str], tmp_path: Path) -> None:
    out = tmp_path / "found.npz"
    assert main(["embed", TINY, *images, "-o", str(out)]) == 0
    with np.load(out, allow_pickle=False) as found:
        assert found["images"].tolist() == images
        assert {name: found[name].shape for name in KINDS} == {n: (2, *s) for n, s in KINDS.items()}
        assert {found[name].dtype for name in KINDS} == {np.dtype(np.float32)}
        expected = np.stack([Embedder(TINY)(image).patches for image in images])
        np.testing.assert_allclose(found["patches"], expected, atol=1e-6, rtol=0)


def test_kinds_may_be_chosen_and_repeated(images: list[str], tmp_path: Path) -> None:
    out = tmp_path / "found.npz"
    words = ["--kind", "patches", "--kind", "cls", "--kind", "cls"]
    assert main(["embed", TINY, *images, *words, "-o", str(out)]) == 0
    with np.load(out, allow_pickle=False) as found:
        assert found.files == ["images", "cls", "patches"]


def test_a_bad_image_is_reported_and_the_rest_goes_on(
    images: list[str], tmp_path: Path, capsys: Output
) -> None:
    bad, out = tmp_path / "bad.png", tmp_path / "found.npz"
    bad.write_bytes(b"no image")
    words = ["embed", TINY, images[0], str(bad), images[1], "--json", "--kind", "cls", "-o", str(out)]
    assert main(words) == 2
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [sorted(answer) for answer in answers] == [["cls", "image"], ["error", "image"], ["cls", "image"]]
    assert printed.err.startswith("vit-edge: error: ")
    assert "bad.png" in printed.err
    with np.load(out, allow_pickle=False) as found:
        assert found["images"].tolist() == images


def test_where_no_image_is_good_nothing_is_written(tmp_path: Path) -> None:
    assert main(["embed", TINY, "missing.png", "-o", str(tmp_path / "found.npz")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_class_token_gives_the_other_kinds(images: list[str], capsys: Output) -> None:
    words = ["embed", str(DATA / "embedder_without_cls.onnx"), images[0], "--json"]
    assert main(words) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["image", "pooled", "patches"]
    assert main([*words, "--kind", "cls"]) == 2
    assert "has no CLS embedding; its kinds are pooled and patches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.onnx", "x.png"], "absent.onnx does not exist"),
        ([TINY], "the following arguments are required: IMAGE"),
        ([str(DATA / "dynamic.onnx"), "x.png"], "is a classifier, not an embedder"),
        ([TINY, "x.png", "--kind", "all"], "'all' is none of cls, pooled, patches"),
        ([TINY, "x.png", "-o", "{folder}"], "--out {folder} cannot be written"),
        ([TINY, "x.png", "-o", "{folder}/nowhere/x.npz"], "name a file in a folder that exists"),
        ([TINY, "x.png", "--provider", "nonesuch"], "nonesuch"),
    ],
)
def test_a_refusal_is_one_line(words: list[str], message: str, tmp_path: Path, capsys: Output) -> None:
    assert main(["embed", *(word.format(folder=tmp_path) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message.format(folder=tmp_path) in err
