"""An image tower in the layout of a home photo server, run as that server runs it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tests.host.family_folders import SIDE, family_folder, image_tower_folder
from tests.host.pictures import picture
from vit_edge import Embedder
from vit_edge.bundle import FileEntry, Manifest, Role, SourceRecord, write_bundle
from vit_edge.cli import main
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.spec import Interpolation, OutputKind, PreprocessSpec, ResizeMode

Output = pytest.CaptureFixture[str]

DIM = 32
FLOAT = "onnx/model.onnx"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, PreprocessSpec]:
    """The float file of a SigLIP tower, and how its images are made: resized whole."""
    folder = tmp_path_factory.mktemp("siglip")
    image_tower_folder(folder / "source", "SiglipVisionModel")
    source = resolve(str(folder / "source"), SourceOptions())
    export_model(source, folder / "model.onnx")
    bare = onnx.load(folder / "model.onnx")
    del bare.metadata_props[:]  # so that the manifest says how its images are made
    return bare.SerializeToString(), source.preprocess


@pytest.fixture
def bundle_of(model: tuple[bytes, PreprocessSpec], tmp_path: Path) -> Callable[..., Path]:
    """A bundle of that file alone, with another preprocessing or output."""

    def made(output: OutputKind = OutputKind.UNIT_EMBEDDING, **changes: object) -> Path:
        data, spec = model
        manifest = Manifest(
            files={FLOAT: FileEntry.of(data, Role.FLOAT)},
            default_model=FLOAT,
            preprocess=dataclasses.replace(spec, **changes),  # type: ignore[arg-type]
            source=SourceRecord("siglip", "0" * 64, ()),
            tools={},
            output=output,
        )
        return write_bundle(tmp_path / "bundle", {FLOAT: data}, manifest).path

    return made


def text_tower(folder: Path, width: int = DIM, entry: str = "text") -> Path:
    """An export of the user's own, as far as it is looked at."""
    tokens = helper.make_tensor_value_info(entry, TensorProto.INT32, [1, 77])
    vector = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, width])
    table = helper.make_tensor("table", TensorProto.FLOAT, [77, width], [0.1] * (77 * width))
    nodes = [
        helper.make_node("Cast", [entry], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "table"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "text", [tokens], [vector], [table])
    (folder / "textual").mkdir(parents=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(made, folder / "textual" / "model.onnx")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "textual" / name).write_text("{}")
    (folder / "config.json").write_text(json.dumps({"embed_dim": width, "text_cfg": {"context_length": 77}}))
    return folder


def as_the_server(folder: Path, image: Image.Image) -> np.ndarray:
    """What immich's visual encoder does, in its own steps."""
    config = json.loads((folder / "visual" / "preprocess_cfg.json").read_text())
    size, how = config["size"][0], Image.Resampling[config["interpolation"].upper()]
    if config["resize_mode"] == "squash":
        image = image.resize((size, size), how)
    else:
        scale = size / min(image.size)
        image = image.resize((int(image.width * scale), int(image.height * scale)), how)
        left, upper = int(image.width / 2 - size / 2), int(image.height / 2 - size / 2)
        image = image.crop((left, upper, left + size, upper + size))
    pixels = np.asarray(image, np.float32) / 255.0
    given = np.divide(pixels - np.float32(config["mean"]), np.float32(config["std"]), dtype=np.float32)
    session = onnxruntime.InferenceSession(folder / "visual" / "model.onnx")
    made: np.ndarray = session.run(None, {"image": given.transpose(2, 0, 1)[None]})[0][0]
    return made


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        ({}, picture(0)),
        ({"interpolation": Interpolation.BILINEAR}, picture(1)),
        ({"resize_mode": ResizeMode.SHORT_SIDE}, picture(2, 64, 48).resize((80, 64))),
    ],
)
def test_the_server_gets_the_vector_that_the_bundle_gives(
    changes: dict[str, object], image: Image.Image, bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = bundle_of(**changes)
    assert main(["package", str(bundle), "--layout", "immich", "-o", str(tmp_path / "clip")]) == 0
    stated = json.loads((tmp_path / "clip" / "visual" / "preprocess_cfg.json").read_text())
    assert stated["size"] == [SIDE, SIDE]
    expected = Embedder(bundle, provider="cpu", decoding="exact")(image).pooled
    np.testing.assert_allclose(as_the_server(tmp_path / "clip", image), expected, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "clip").iterdir()) == ["visual"]


def test_without_a_text_tower_it_is_said_what_is_missing(
    bundle_of: Callable[..., Path], tmp_path: Path, capsys: Output
) -> None:
    assert main(["package", str(bundle_of()), "--layout", "immich", "-o", str(tmp_path / "clip")]) == 0
    assert "textual/ and config.json are missing: copy them from" in capsys.readouterr().err


def test_the_users_own_text_tower_is_copied_as_it_is(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    texts = text_tower(tmp_path / "export")
    words = ["--layout", "immich", "--textual", str(texts), "-o", str(tmp_path / "clip")]
    assert main(["package", str(bundle_of()), *words]) == 0
    for name in (
        "config.json",
        "textual/model.onnx",
        "textual/tokenizer.json",
        "textual/tokenizer_config.json",
    ):
        assert (tmp_path / "clip" / name).read_bytes() == (texts / name).read_bytes()


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"output": OutputKind.EMBEDDING},
            "gives embedding, which is compared with no texts",
        ),
        ({"resize": (SIDE + 3, SIDE + 3)}, "crops 32x32; immich resizes to the side of a square"),
        ({"resize_mode": ResizeMode.COVER}, "immich resizes to the side of a square"),
    ],
)
def test_a_bundle_that_the_server_would_read_wrongly_is_refused(
    changes: dict[str, object], message: str, bundle_of: Callable[..., Path], tmp_path: Path, capsys: Output
) -> None:
    bundle = bundle_of(**changes)
    assert main(["package", str(bundle), "--layout", "immich", "-o", str(tmp_path / "clip")]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "must hold config.json, textual/model.onnx"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is no config of open_clip"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no config of open_clip"),
        (lambda folder: (folder / "textual" / "model.onnx").write_text("{"), "is no ONNX model"),
    ],
)
def test_a_text_tower_that_lacks_something_is_refused(
    spoil: Callable[[Path], object],
    message: str,
    bundle_of: Callable[..., Path],
    tmp_path: Path,
    capsys: Output,
) -> None:
    texts = text_tower(tmp_path / "export")
    spoil(texts)
    words = ["--layout", "immich", "--textual", str(texts), "-o", str(tmp_path / "clip")]
    assert main(["package", str(bundle_of()), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "clip").exists()


def test_a_text_tower_of_another_model_is_refused(
    bundle_of: Callable[..., Path], tmp_path: Path, capsys: Output
) -> None:
    bundle = str(bundle_of())
    out = ["--layout", "immich", "-o", str(tmp_path / "clip"), "--textual"]
    assert main(["package", bundle, *out, str(text_tower(tmp_path / "wide", DIM + 1))]) == 2
    assert "gives vectors of 33 numbers, the bundle of 32: they are of two models" in capsys.readouterr().err
    assert main(["package", bundle, *out, str(text_tower(tmp_path / "other", entry="words"))]) == 2
    assert "textual/model.onnx takes words, not `text`" in capsys.readouterr().err
    assert main(["package", bundle, "--for", "node", *out[2:], str(tmp_path / "wide")]) == 2
    assert "--textual goes with --layout immich" in capsys.readouterr().err


# --- written by `build`, beside its bundle


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("to-build") / "source"
    image_tower_folder(folder, "SiglipVisionModel")
    return folder


def calibration(folder: Path) -> Path:
    folder.mkdir()
    for seed in range(8):
        picture(seed).save(folder / f"{seed}.png")
    return folder


def test_build_writes_the_layout_beside_its_bundle(siglip: Path, tmp_path: Path, capsys: Output) -> None:
    words = ["build", str(siglip), "--calib", str(calibration(tmp_path / "images")), "--preset", "static"]
    texts = text_tower(tmp_path / "texts")
    layout = ["--layout", "immich", "--textual", str(texts)]
    main([*words, *layout, "-o", str(tmp_path / "bundle"), "--repair", "never", "--quiet"])
    told = capsys.readouterr().err
    made = tmp_path / "bundle-immich"
    assert f"{made}: 6 files" in told
    assert (
        main(["package", str(tmp_path / "bundle"), "--layout", "immich", "-o", str(tmp_path / "again")]) == 0
    )
    for name in ("visual/model.onnx", "visual/preprocess_cfg.json"):
        assert (made / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert (made / "textual" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layout", "immich", "--crop-pct", "0.9"], "immich resizes to the side of a square"),
        (["--layout", "immich", "--textual", "nowhere"], "--textual nowhere must hold config.json"),
        (["--textual", "nowhere"], "--textual goes with --layout immich"),
    ],
)
def test_what_build_cannot_lay_out_is_refused_before_it_works(
    more: list[str], message: str, siglip: Path, tmp_path: Path, capsys: Output
) -> None:
    words = ["build", str(siglip), "--calib", str(calibration(tmp_path / "images"))]
    assert main([*words, *more, "-o", str(tmp_path / "bundle")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_place_that_is_taken_is_refused_before_it_works(
    siglip: Path, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "bundle-immich").mkdir()
    (tmp_path / "bundle-immich" / "mine.txt").write_text("mine")
    words = ["build", str(siglip), "--calib", str(calibration(tmp_path / "images")), "--layout", "immich"]
    assert main([*words, "-o", str(tmp_path / "bundle")]) == 2
    assert "bundle-immich" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_classifier_is_refused_before_it_works(tmp_path: Path, capsys: Output) -> None:
    family_folder(tmp_path / "source", "dinov2")
    words = ["build", str(tmp_path / "source"), "--calib", str(calibration(tmp_path / "images"))]
    assert main([*words, "--layout", "immich", "-o", str(tmp_path / "bundle")]) == 2
    assert "which is compared with no texts" in capsys.readouterr().err
