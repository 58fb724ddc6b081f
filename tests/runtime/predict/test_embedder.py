"""From any form of image to its embeddings; a bundle's embedder is never mistaken for its classifier."""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from vit_edge import Classifier, Embedder, Embedding
from vit_edge.bundle import FileEntry, Manifest, Role, SourceRecord, read_bundle, write_bundle
from vit_edge.errors import BundleError, ImageError, ModelError, UsageError
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.outputs import Features
from vit_edge.runtime.session.session import Session

DIM, GRID = 6, (2, 2)  # of the tiny embedders in tests/data


@pytest.fixture(scope="module")
def embed(data: Path) -> Embedder:
    return Embedder(data / "embedder.onnx", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With both kinds of model, float and (as to its role) INT8, of which the latter classifies."""
    return written(tmp_path_factory.mktemp("bundles") / "both", both_kinds(data, "model_quantized.onnx"))


def both_kinds(data: Path, default: str) -> dict[str, tuple[Path, Role]]:
    classifiers = {"model.onnx": Role.FLOAT, "model_quantized.onnx": Role.QUANTIZED}
    files = {f"onnx/{default}": (data / "dynamic.onnx", classifiers[default])}
    files |= {f"onnx/{name}": (data / "dynamic.onnx", role) for name, role in classifiers.items()}
    return files | {
        "onnx/embedder.onnx": (data / "embedder.onnx", Role.EMBEDDER_FLOAT),
        "onnx/embedder_quantized.onnx": (data / "embedder_fixed4.onnx", Role.EMBEDDER),
    }


def written(path: Path, files: dict[str, tuple[Path, Role]]) -> Path:
    preprocess = read_model(next(iter(files.values()))[0]).preprocess
    assert preprocess is not None
    content = {name: source.read_bytes() for name, (source, _) in files.items()}
    manifest = Manifest(
        files={name: FileEntry.of(content[name], role) for name, (_, role) in files.items()},
        default_model=next(iter(files)),
        preprocess=preprocess,
        source=SourceRecord("tiny", "0" * 64),
        tools={},
    )
    write_bundle(path, content, manifest)
    return path


def same(one: Embedding | ImageError, other: Embedding, atol: float = 0.0) -> None:
    assert isinstance(one, Embedding)
    assert (one.cls is None) == (other.cls is None)
    pairs = [(one.pooled, other.pooled), (one.patches, other.patches)]
    if one.cls is not None and other.cls is not None:
        pairs.append((one.cls, other.cls))
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


def test_an_embedding_is_what_plain_onnxruntime_gives(embed: Embedder, data: Path, photo: np.ndarray) -> None:
    spec = read_model(data / "embedder.onnx").preprocess
    assert spec is not None
    session = onnxruntime.InferenceSession(data / "embedder.onnx", providers=["CPUExecutionProvider"])
    feed = {"pixel_values": normalize(load_pixels(photo, spec)[None], spec)}
    cls, pooled, patches = session.run(["cls_embedding", "pooled_embedding", "patch_features"], feed)
    same(embed(photo), Embedding(cls[0], pooled[0], patches[0]))


def test_shapes_are_those_that_are_told(embed: Embedder, photo: np.ndarray) -> None:
    found = embed(photo)
    assert (embed.dim, embed.grid, embed.has_cls) == (DIM, GRID, True)
    assert found.cls is not None
    assert found.cls.shape == found.pooled.shape == (DIM,)
    assert found.patches.shape == (*GRID, DIM)
    assert {found.cls.dtype, found.pooled.dtype, found.patches.dtype} == {np.dtype(np.float32)}
    assert embed.placement.reason == "requested"


def test_a_patch_is_where_it_is_in_the_image(embed: Embedder) -> None:
    """The fixture sees each patch alone: what changes at the top right, changes one token and no other."""
    black = np.zeros((10, 10, 3), np.uint8)  # the crop of 8 x 8 starts at 1
    changed = black.copy()
    changed[1:5, 5:9] = 255
    moved = np.abs(embed(changed).patches - embed(black).patches).max(axis=-1) > 0
    assert moved.tolist() == [[False, True], [False, False]]


def test_every_form_of_an_image_gives_one_answer(embed: Embedder, photo: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(photo)
    image.save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    sources: list[ImageSource] = [
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        data,
        io.BytesIO(data),
        image,
    ]
    for source in sources:
        same(embed(source), embed(photo))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("name", ["embedder.onnx", "embedder_fixed4.onnx", "embedder_without_cls.onnx"])
def test_a_batch_gives_the_embeddings_of_single_calls_in_order(
    data: Path, photo: np.ndarray, name: str, batch_size: int
) -> None:
    embed = Embedder(data / name)
    sources = [np.roll(photo, shift, axis=1) for shift in range(7)]
    found = list(embed.batch(sources, batch_size=batch_size))
    assert len(found) == 7
    for source, answer in zip(sources, found, strict=True):
        same(answer, embed(source), atol=1e-6)


def test_a_bad_image_costs_only_itself(embed: Embedder, photo: np.ndarray) -> None:
    answers = list(embed.batch([photo, b"no image", "missing.jpg", photo], batch_size=3))
    assert [isinstance(answer, ImageError) for answer in answers] == [False, True, True, False]
    same(answers[3], embed(photo))
    with pytest.raises(ImageError, match="no JPEG"):
        embed(b"no image")


def test_a_batch_size_below_one_is_refused_at_once(embed: Embedder) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        embed.batch([], batch_size=0)


def test_an_embedding_does_not_keep_its_batch_alive(embed: Embedder, photo: np.ndarray) -> None:
    (found, *_) = embed.batch([photo] * 4)
    assert isinstance(found, Embedding)
    assert found.patches.base is None
    found.patches[:] = 0  # it is the caller's own
    assert np.any(embed(photo).patches)


def test_a_model_without_a_class_token_has_no_cls_embedding(data: Path, photo: np.ndarray) -> None:
    embed = Embedder(data / "embedder_without_cls.onnx")
    assert not embed.has_cls
    assert embed(photo).cls is None
    assert embed(photo).pooled.shape == (DIM,)


def test_an_embedder_goes_through_pickle_by_its_path(embed: Embedder, photo: np.ndarray) -> None:
    same(pickle.loads(pickle.dumps(embed))(photo), embed(photo))  # noqa: S301  our own bytes


def test_a_file_knows_what_it_is(data: Path) -> None:
    embedder, classifier = read_model(data / "embedder.onnx"), read_model(data / "dynamic.onnx")
    assert embedder.features == Features(DIM, GRID, has_cls=True)
    assert embedder.classes is None
    assert list(embedder.outputs) == ["cls_embedding", "pooled_embedding", "patch_features"]
    assert classifier.features is None
    assert classifier.outputs == {"logits": (3,)}


def test_no_images_give_empty_outputs(data: Path) -> None:
    outputs = Session(read_model(data / "embedder.onnx")).outputs(np.empty((0, 8, 8, 3), np.uint8))
    assert {name: values.shape for name, values in outputs.items()} == {
        "cls_embedding": (0, 6),
        "pooled_embedding": (0, 6),
        "patch_features": (0, 2, 2, 6),
    }


def test_the_two_kinds_are_not_mistaken_for_each_other(data: Path) -> None:
    with pytest.raises(ModelError, match=r"embedder\.onnx is an embedder, not a classifier.*Embedder"):
        Classifier(data / "embedder.onnx")
    with pytest.raises(ModelError, match=r"dynamic\.onnx is a classifier, not an embedder.*Classifier"):
        Embedder(data / "dynamic.onnx")
    with pytest.raises(ModelError, match="gives no logits"):
        Session(read_model(data / "embedder.onnx")).run(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_model_without_preprocessing_is_refused(data: Path) -> None:
    with pytest.raises(ModelError, match=r"vit_edge\.preprocess"):
        Embedder(data / "embedder_plain.onnx")


def test_a_bundle_that_classifies_in_int8_embeds_in_int8_unless_float_is_asked_for(
    bundle: Path, photo: np.ndarray
) -> None:
    assert read_bundle(bundle).embedders() == ["onnx/embedder_quantized.onnx", "onnx/embedder.onnx"]
    chosen = {
        model: Embedder(bundle, model=model)._session.model.path.name
        for model in (None, Role.EMBEDDER, "embedder_float", "onnx/embedder.onnx")
    }
    assert list(chosen.values()) == ["embedder_quantized.onnx"] * 2 + ["embedder.onnx"] * 2
    same(Embedder(bundle)(photo), Embedder(bundle, model="embedder_float")(photo), atol=1e-6)


def test_a_bundle_that_classifies_in_float_embeds_in_float(data: Path, tmp_path: Path) -> None:
    bundle = written(tmp_path / "bundle", both_kinds(data, "model.onnx"))
    assert read_bundle(bundle).embedders() == ["onnx/embedder.onnx", "onnx/embedder_quantized.onnx"]
    assert Embedder(bundle)._session.model.path.name == "embedder.onnx"


@pytest.mark.parametrize("model", [None, Role.FLOAT, "quantized", "onnx/model.onnx"])
def test_the_same_bundle_classifies(bundle: Path, photo: np.ndarray, model: Role | str | None) -> None:
    assert Classifier(bundle, model=model)(photo)[0].label in {"ant", "bee", "cat"}
    assert sorted(read_bundle(bundle).models()) == ["onnx/model.onnx", "onnx/model_quantized.onnx"]


@pytest.mark.parametrize("role", [Role.EMBEDDER, Role.EMBEDDER_FLOAT])
def test_an_embedder_is_never_what_a_bundle_runs_by_default(data: Path, tmp_path: Path, role: Role) -> None:
    with pytest.raises(ValueError, match=re.escape("default_model 'onnx/e.onnx' is no model")):
        written(tmp_path / "b", {"onnx/e.onnx": (data / "embedder.onnx", role)})


def test_a_bundle_that_lacks_what_is_asked_for_is_refused(bundle: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a classifier, not an embedder"):
        Embedder(bundle, model="float")
    with pytest.raises(ModelError, match="is an embedder, not a classifier"):
        Classifier(bundle, model=Role.EMBEDDER)
    with pytest.raises(BundleError, match="is not listed"):
        Embedder(bundle, model="onnx/nowhere.onnx")
    plain = written(tmp_path / "plain", {"onnx/model.onnx": (data / "dynamic.onnx", Role.FLOAT)})
    with pytest.raises(BundleError, match="has no embedder; build it with --embedder"):
        Embedder(plain)
    with pytest.raises(BundleError, match="0 models of role embedder"):
        Embedder(plain, model="embedder")


def test_what_is_missing_or_no_bundle_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        Embedder(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match=r"without vit_edge\.json"):
        Embedder(tmp_path)
    with pytest.raises(ModelError, match="is no bundle folder"):
        Embedder(data / "embedder.onnx", model="embedder")
