"""A model file is read once, hashed, and refused before onnxruntime sees it if it breaks the contract."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge import Classifier
from vit_edge.errors import ModelError
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session
from vit_edge.spec import InputForm, Interpolation

DATA = Path(__file__).parents[2] / "data"


def test_a_model_file_knows_its_hash_labels_and_preprocessing(data: Path) -> None:
    path = data / "dynamic.onnx"
    model = read_model(path)
    assert model.path == path
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.labels == ("ant", "bee", "cat")
    assert model.preprocess is not None
    assert model.preprocess.interpolation is Interpolation.BICUBIC
    assert (model.form, model.batch, model.size, model.classes) == (InputForm.PIXEL_VALUES, None, (8, 8), 3)
    assert model.session_options == ()


def test_input_form_and_batch_are_read_from_the_graph(data: Path) -> None:
    assert read_model(data / "pixels.onnx").form is InputForm.PIXELS
    assert read_model(data / "fixed4.onnx").batch == 4


def test_session_options_travel_with_the_file(data: Path) -> None:
    model = read_model(data / "session_options.onnx")
    assert model.session_options == (("session.qdqisint8allowed", "1"),)


def test_a_file_without_metadata_is_still_a_model(data: Path) -> None:
    model = read_model(str(data / "plain.onnx"))
    assert (model.labels, model.preprocess, dict(model.metadata)) == (None, None, {})


def test_the_bytes_do_not_flood_a_message(data: Path) -> None:
    assert len(repr(read_model(data / "dynamic.onnx"))) < 1000


@pytest.mark.parametrize(
    ("name", "image", "scores", "channels_last"),
    [
        ("foreign_names.onnx", "image", "scores", False),
        ("foreign_channels_last.onnx", "x", "Identity:0", True),
        ("foreign_uint8_channels_first.onnx", "image", "logits", False),
        ("foreign_two_outputs.onnx", "image", "scores", False),
        ("dynamic.onnx", "pixel_values", "logits", False),
        ("pixels.onnx", "pixels", "logits", True),
    ],
)
def test_files_of_other_makers_have_their_own_names_and_layouts(
    data: Path, name: str, image: str, scores: str, channels_last: bool
) -> None:
    model = read_model(data / name)
    assert model.image is not None
    assert (model.image.name, model.scores, model.image.channels_last) == (image, scores, channels_last)
    assert (model.size, model.classes) == ((8, 8), 3)


@pytest.mark.parametrize(
    "name",
    [
        "foreign_names.onnx",
        "foreign_channels_last.onnx",
        "foreign_uint8_channels_first.onnx",
        "foreign_two_outputs.onnx",
        "pixels.onnx",
    ],
)
def test_a_model_gives_the_same_logits_however_its_file_lays_out_the_image(data: Path, name: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 8, 8, 3), np.uint8)
    usual = read_model(data / "dynamic.onnx")
    model = dataclasses.replace(read_model(data / name), preprocess=usual.preprocess)
    # The same float32 weights; the order of the normalisation's roundings differs.
    np.testing.assert_allclose(Session(model).run(pixels), Session(usual).run(pixels), rtol=0, atol=1e-5)


REFUSALS = {
    "bad_external.onnx": "external data",
    "bad_foreign.onnx": "com.example::Mystery",
    "bad_foreign_subgraph.onnx": "com.example::Mystery",
    "bad_two_inputs.onnx": "it must have one, a batch of images",
    "bad_two_outputs.onnx": r"several outputs that may hold its answers \(.*\); name one with --output",
    "bad_embedder_open.onnx": "leaves the shape of patch_features open",
    "bad_embedder_dim.onnx": "pooled_embedding of another dimension",
    "bad_embedder_rank.onnx": r"must be float32 \(N, rows, columns, dim\)",
    "bad_embedder_outputs.onnx": "two must be named pooled_embedding and patch_features",
    "bad_input_type.onnx": "must be float32",
    "bad_rank.onnx": "must be float32",
    "bad_channels.onnx": "1 channels",
    "bad_size.onnx": "image height 100000",
    "bad_label_count.onnx": "2 labels for 3 classes",
    "bad_labels.onnx": "vit_edge.labels metadata",
    "bad_preprocess.onnx": "vit_edge.preprocess metadata",
    "bad_session_options.onnx": "session.use_env_allocators",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_file_outside_the_contract_is_refused_with_its_name(data: Path, name: str) -> None:
    with pytest.raises(ModelError, match=REFUSALS[name]) as caught:
        read_model(data / name)
    assert str(data / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_bad_file_has_its_test(data: Path) -> None:
    on_disk = {path.name for path in data.glob("bad_*.onnx")}
    assert on_disk == {*REFUSALS, "bad_unrunnable.onnx"}  # that one only onnxruntime can refuse


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "is no ONNX model", id="LFS pointer"),
        pytest.param(b"<html>not found</html>", "is no ONNX model", id="HTML"),
        pytest.param(np.random.default_rng(1).bytes(4096), "is no ONNX model|has ", id="noise"),
    ],
)
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix", ["ort", "onnx"])
def test_the_format_of_onnxruntime_is_refused_by_its_name(data: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(data / "pixels.onnx", options, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match=r"own format \(\.ort\).*give the ONNX file or the bundle") as caught:
        Classifier(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx does not exist"):
        read_model(tmp_path / "nowhere.onnx")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without vit_edge\.json"):
        read_model(tmp_path)


def test_a_file_beyond_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: takes no room on disk
    with pytest.raises(ModelError, match="2 GiB"):
        read_model(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="no regular file"):
        read_model(tmp_path / "model.onnx")


def test_a_role_needs_a_bundle(data: Path) -> None:
    with pytest.raises(ModelError, match="no bundle"):
        read_model(data / "dynamic.onnx", role="float")


@settings(max_examples=60)
@given(st.data())
def test_a_truncated_model_loads_or_is_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    original = (DATA / "dynamic.onnx").read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.onnx"
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    try:
        Session(read_model(path))
    except ModelError:
        return
