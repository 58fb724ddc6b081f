"""`--taps`: the patches as they leave blocks that are asked for, from torch to the file and the device."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.host.quantize.small_vit import PREPROCESS, images, lowering, small, written
from tests.host.vit_forms import FORMS, Export, exported, randomised, run
from vit_edge import Embedder
from vit_edge.arrays import Array
from vit_edge.cli import main
from vit_edge.errors import UsageError
from vit_edge.host.embedder.files import export_embedder
from vit_edge.host.embedder.graph import feature_graph
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.vit import VisionTransformer

ROOT = Path(__file__).resolve().parents[3]
DIGITS = str(ROOT / "models" / "digits_vit")
HOW = Export(True, 20, None)
TOLERANCE = 5e-5  # of values up to 5, as for the other outputs of embedders
OWN = ["own", "own-distilled", "own-registers-mean"]


@torch.no_grad()
def by_torch(form: str, given: Array) -> list[Array]:
    """What each block of the very model that is exported gives for the patches, (N, rows, columns, D)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomised(FORMS[form].build())
    assert isinstance(model, VisionTransformer)
    left: list[Array] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _given, made: left.append(made.numpy()))
    model(torch.from_numpy(given))
    prefix, grid = model.config.prefix_tokens, model.config.grid
    return [each[:, prefix:].reshape(len(given), *grid, -1) for each in left]


@pytest.mark.parametrize("form", OWN)
def test_a_tap_is_what_the_block_gives_in_torch(form: str) -> None:
    kind = FORMS[form].expected
    shape = (3, kind.channels, *kind.image)
    given = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    features = feature_graph(canonicalise(exported(form, HOW), form), taps=(1, 0))
    assert features.outputs[-2:] == ("tap_1", "tap_0")
    assert features.whole == features.outputs[:-2]
    expected = by_torch(form, given)
    for name, block in (("tap_0", 0), ("tap_1", 1)):
        model = lower(features.canonical, LowerSettings(outputs=features.outputs))
        place = features.outputs.index(name)
        while place:
            model.graph.output.remove(model.graph.output[0])
            place -= 1
        np.testing.assert_allclose(run(model, given), expected[block], rtol=0, atol=TOLERANCE)


def test_without_taps_an_embedder_has_the_outputs_that_it_had() -> None:
    canonical = canonicalise(exported("own", HOW), "own")
    assert feature_graph(canonical).outputs == feature_graph(canonical, taps=()).whole


def test_the_folds_of_quantization_leave_taps_as_they_are(tmp_path: Path) -> None:
    canonical = small()
    settings = QuantizeSettings(images=4)
    folded = fold(canonical, calibrate(canonical, written(tmp_path, 4), PREPROCESS, settings))
    plain = feature_graph(canonical, taps=(0, 1, 2))
    other = feature_graph(folded.canonical, plain.norm, plain.taps)
    given = images(3, 4)
    for place in range(len(plain.outputs)):
        found = []
        for features in (plain, other):
            names = (features.outputs[place],)
            graph = features.canonical.model.graph
            kept = list(graph.outputs)
            graph.outputs[:] = [graph.outputs[place]]
            found.append(run(lower(features.canonical, _outputs(names)), given))
            graph.outputs[:] = kept
        np.testing.assert_allclose(found[1], found[0], rtol=0, atol=2e-4 * np.abs(found[0]).max())


def _outputs(names: tuple[str, ...]) -> LowerSettings:
    plain = lowering(None)
    return LowerSettings(plain.form, plain.normalisation, names)


@pytest.mark.parametrize(("taps", "beyond"), [((4,), 4), ((0, 9), 9), ((-1,), -1)])
def test_a_block_that_is_not_there_is_refused(taps: tuple[int, ...], beyond: int) -> None:
    with pytest.raises(UsageError, match=f"--taps {beyond} is no block of .*, which has 0 to 1"):
        feature_graph(canonicalise(exported("own", HOW), "own"), taps=taps)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the digits with two taps, float32."""
    out = tmp_path_factory.mktemp("taps") / "embedder.onnx"
    export_embedder(resolve(DIGITS, SourceOptions()), out, taps=(1, 3))
    return out


def picture(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return path


def test_the_device_gives_them_by_the_number_of_the_block(embedder: Path, tmp_path: Path) -> None:
    embed = Embedder(embedder)
    found = embed(picture(tmp_path))
    assert list(found.taps) == [1, 3]
    assert found.taps[1].shape == found.patches.shape == (*embed.grid, embed.dim)
    np.testing.assert_array_equal(found.of("tap_3"), found.taps[3])
    assert not np.allclose(found.taps[1], found.taps[3], atol=0.1)
    assert embed.kinds[-2:] == ("tap_1", "tap_3")


def test_embed_writes_them_as_arrays_and_as_a_job(
    embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, found = str(picture(tmp_path)), Embedder(embedder)(picture(tmp_path))
    assert main(["embed", str(embedder), image, "-o", str(tmp_path / "all.npz")]) == 0
    with np.load(tmp_path / "all.npz") as arrays:
        np.testing.assert_array_equal(arrays["tap_3"][0], found.taps[3])
    words = [
        "embed",
        str(embedder),
        "--dir",
        str(tmp_path),
        "--kind",
        "tap_1",
        "-o",
        str(tmp_path / "one.npy"),
    ]
    assert main([*words, "--quiet"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy")[0], found.taps[1])
    capsys.readouterr()
    assert main(["embed", str(embedder), image, "--kind", "tap_1", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["image", "tap_1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["export", DIGITS, "--taps", "1", "-o", "x.onnx"],
            "--taps are outputs of an embedder: add --embedder",
        ),
        (
            ["export", DIGITS, "--embedder", "--taps", "1,1", "-o", "x.onnx"],
            "'1,1' is no list of different blocks",
        ),
        (["export", DIGITS, "--embedder", "--taps", "-1", "-o", "x.onnx"], "no list of different blocks"),
        (
            ["export", DIGITS, "--embedder", "--taps", "40", "-o", "x.onnx"],
            "--taps 40 is no block of digits_vit",
        ),
        (["embed", "EMBEDDER", "x.png", "--kind", "tap_2"], "has no tap_2; its kinds are"),
        (
            ["embed", "EMBEDDER", "x.png", "--kind", "tap_x"],
            "'tap_x' is none of cls, pooled, patches and tap_K",
        ),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(
    embedder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path).rename(tmp_path / "x.png")
    assert main([str(embedder) if word == "EMBEDDER" else word for word in words]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
