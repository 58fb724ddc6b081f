"""A bundle is complete or absent, and only bytes that the manifest records are ever used."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.manifests import METHOD, accuracy, recipe
from vit_edge import Classifier, fields
from vit_edge.bundle import (
    MANIFEST,
    FileEntry,
    Manifest,
    Role,
    SourceRecord,
    read_bundle,
    read_manifest,
    verify_bundle,
    write_bundle,
)
from vit_edge.errors import BundleError, IntegrityError
from vit_edge.files import draft_beside, replace
from vit_edge.golden import EXPECTED, OUTPUTS, GoldenCase, golden_bytes, read_golden
from vit_edge.manifest import LatencyRecord, LayerRecord, Machine
from vit_edge.runtime.model.file import read_model
from vit_edge.spec import Arithmetic, Interpolation, PreprocessSpec, ResizeMode

SPEC = PreprocessSpec(
    8, 8, ResizeMode.SHORT_SIDE, (10, 10), Interpolation.BICUBIC, (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
)
LATENCY = LatencyRecord(
    path="onnx/model.onnx",
    providers=("CPUExecutionProvider",),
    threads=None,
    batch=1,
    min_ms=1.2,
    median_ms=1.5,
    p95_ms=2.0,
    peak_rss_mb=None,
    size_mb=0.1,
    ratio_to_float=1.0,
    timed_on_its_device=True,
    machine="a test",
    environment=Machine("a test", 2, ("avx2",), "Linux x86_64", "3.11.2", "1.32.0"),
)
FLOAT, QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def files(data: Path) -> dict[str, bytes]:
    case = GoldenCase("golden/0.png", QUANTIZED, (1.0, -2.5, 0.25), 0.05)
    return {
        FLOAT: (data / "dynamic.onnx").read_bytes(),
        QUANTIZED: (data / "pixels.onnx").read_bytes(),
        "config.json": b'{"model_type": "vit"}',
        "golden/0.png": png(),
        EXPECTED: golden_bytes([case]),
    }


ROLES = {FLOAT: Role.FLOAT, QUANTIZED: Role.QUANTIZED, "config.json": Role.CONFIG}


def manifest_of(files: dict[str, bytes], default_model: str = QUANTIZED) -> Manifest:
    return Manifest(
        files={name: FileEntry.of(data, ROLES.get(name, Role.GOLDEN)) for name, data in files.items()},
        default_model=default_model,
        preprocess=SPEC,
        source=SourceRecord("example/vit", "0" * 64),
        tools={"onnxruntime": "1.32.0"},
        quantization=recipe(),
        layers=(LayerRecord("block 7 fc2", "int8_row", 40.9, "the fastest form, 0.1 ms"),),
        accuracy=accuracy(98.5),
        latency=(LATENCY,),
        providers={"CPUExecutionProvider": 1.0},
    )


def test_what_was_assumed_of_the_source_is_read_back_and_may_be_absent() -> None:
    noted = dataclasses.replace(
        manifest_of({QUANTIZED: b""} | {FLOAT: b""}), source=SourceRecord("x", "0" * 64, ("a",))
    )
    raw = noted.to_json()
    assert Manifest.from_json(raw).source.notes == ("a",)
    raw["source"] = {"name": "x", "sha256": "0" * 64}  # as manifests from before had it
    assert Manifest.from_json(raw).source.notes == ()


@pytest.fixture
def bundle(tmp_path: Path, files: dict[str, bytes]) -> Path:
    path = tmp_path / "bundle"
    write_bundle(path, files, manifest_of(files))
    return path


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((bundle / MANIFEST).read_text())
    change(raw)
    (bundle / MANIFEST).write_text(json.dumps(raw))


def test_what_is_written_is_read_back(bundle: Path, files: dict[str, bytes]) -> None:
    result = verify_bundle(bundle)
    assert result.manifest == manifest_of(files)
    assert {name: result.read(name) for name in files} == files
    assert sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()) == sorted(
        [*files, MANIFEST]
    )


def test_the_manifest_is_plain_json_with_the_documented_keys(bundle: Path) -> None:
    raw = json.loads((bundle / MANIFEST).read_bytes())
    assert set(raw) == {
        "format_version",
        "files",
        "default_model",
        "preprocess",
        "source",
        "tools",
        "quantization",
        "layers",
        "accuracy",
        "latency",
        "providers",
        "source_parity",
    }
    assert raw["format_version"] == 1
    assert raw["files"]["config.json"].keys() == {"sha256", "size", "role"}


def test_nothing_is_left_beside_a_bundle(bundle: Path) -> None:
    assert list(bundle.parent.iterdir()) == [bundle]


@pytest.mark.parametrize(
    ("role", "name"),
    [(None, QUANTIZED), ("float", FLOAT), (Role.FLOAT, FLOAT), ("quantized", QUANTIZED), (FLOAT, FLOAT)],
)
def test_a_model_is_chosen_by_role_or_path(bundle: Path, role: Role | str | None, name: str) -> None:
    model = read_model(bundle, role)
    assert model.path == bundle / name
    assert model.preprocess == SPEC


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("lowered", "0 models of role lowered"),
        ("config.json", "is no model"),
        ("onnx/other.onnx", "is not listed"),
        ("../bundle/onnx/model.onnx", "is not listed"),
        ("/etc/passwd", "is not listed"),
    ],
)
def test_a_role_that_the_bundle_does_not_have_is_refused(bundle: Path, role: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_model(bundle, role)


def test_a_bundle_classifies(bundle: Path) -> None:
    assert Classifier(bundle)(np.zeros((9, 9, 3), np.uint8))[0].label in {"ant", "bee", "cat"}


def test_the_manifests_preprocessing_serves_a_model_that_has_none(tmp_path: Path, data: Path) -> None:
    files = {FLOAT: (data / "plain.onnx").read_bytes()}
    write_bundle(tmp_path / "b", files, manifest_of(files, default_model=FLOAT))
    assert read_model(tmp_path / "b").preprocess == SPEC


@pytest.mark.parametrize("name", [FLOAT, "config.json", "golden/0.png"])
@pytest.mark.parametrize("damage", ["flip a bit", "append", "truncate"])
def test_a_changed_file_is_named(bundle: Path, name: str, damage: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    if damage == "flip a bit":
        data[len(data) // 2] ^= 1
    elif damage == "append":
        data += b"\0"
    else:
        del data[-1]
    (bundle / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        verify_bundle(bundle)


def test_a_changed_model_is_refused_before_it_is_parsed(bundle: Path) -> None:
    (bundle / QUANTIZED).write_bytes(b"rubbish")
    with pytest.raises(IntegrityError, match="model_quantized"):
        read_model(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    with pytest.raises(BundleError, match=r"lacks config\.json"):
        read_bundle(bundle)


def test_a_symbolic_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    (bundle / "config.json").rename(outside)
    (bundle / "config.json").symlink_to(outside)
    with pytest.raises(BundleError, match=r"config\.json.*symbolic link"):
        read_bundle(bundle)


def test_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "onnx").rename(tmp_path / "onnx")
    (bundle / "onnx").symlink_to(tmp_path / "onnx")
    with pytest.raises(BundleError, match="symbolic link"):
        read_model(bundle)


def test_a_link_in_a_loop_is_refused(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to("config.json")
    with pytest.raises(BundleError, match=r"config\.json"):
        read_bundle(bundle)


def test_a_hard_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    os.link(bundle / QUANTIZED, tmp_path / "second_name.onnx")
    with pytest.raises(BundleError, match=r"model_quantized.*hard link"):
        read_model(bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_is_refused_and_does_not_block(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    os.mkfifo(bundle / "config.json")
    with pytest.raises(BundleError, match="no regular file"):
        read_bundle(bundle)


def test_a_bundle_behind_a_link_to_its_folder_is_fine(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    verify_bundle(tmp_path / "current")


def test_foreign_files_are_ignored(bundle: Path) -> None:
    (bundle / "onnx" / "notes.txt").write_text("mine")
    assert "onnx/notes.txt" not in verify_bundle(bundle).manifest.files


PATHS = [
    "../up.json",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    "./a",
    "a\\b",
    "C:/a",
    "a b",
    "",
    "é",
    "VIT_EDGE.json",
    "a/.",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_could_leave_the_folder_is_refused(bundle: Path, path: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1, "role": "config"}
    edit(bundle, lambda raw: raw["files"].update({path: entry}))
    with pytest.raises(BundleError, match="files has the path"):
        read_bundle(bundle)


def remove(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw.pop(key)


def put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw.update({key: value})


def within(section: str, **changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw[section].update(changes)


def latency(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["latency"][0].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        within("accuracy", later=1),
        within("quantization", later={"deep": [1]}),
        latency(later=None),
        lambda raw: raw["accuracy"]["evidence"].update(later="x"),
        lambda raw: raw["accuracy"]["evidence"].pop("contradicted"),  # a key with a default
        lambda raw: raw["layers"][0].pop("static_range"),
    ],
)
def test_what_is_recorded_of_the_build_may_have_keys_of_another_version(
    bundle: Path, files: dict[str, bytes], change: Callable[[dict[str, Any]], object]
) -> None:
    edit(bundle, change)
    assert read_bundle(bundle).manifest == manifest_of(files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(put("format_version", 2), "newer than 1.*pip install --upgrade", id="from the future"),
        pytest.param(put("format_version", 0), "format_version", id="version 0"),
        pytest.param(put("format_version", "1"), "format_version", id="version as text"),
        pytest.param(put("format_version", True), "format_version", id="version true"),
        pytest.param(remove("format_version"), "format_version", id="no version"),
        pytest.param(put("extra", 1), "unknown key 'extra'", id="unknown key"),
        pytest.param(remove("latency"), "lacks the key 'latency'", id="missing key"),
        pytest.param(put("files", []), "files must be an object", id="files as list"),
        pytest.param(put("files", {}), "default_model", id="no files"),
        pytest.param(put("default_model", "config.json"), "is no model", id="default is no model"),
        pytest.param(put("default_model", 3), "default_model", id="default is a number"),
        pytest.param(put("preprocess", {"height": 8}), "preprocess", id="preprocess cut"),
        pytest.param(put("source", {"name": "x", "sha256": "abc"}), "source sha256", id="short hash"),
        pytest.param(
            put("source", {"name": "x", "sha256": "0" * 64, "notes": "assumed"}),
            "source notes must be a list",
            id="notes as one text",
        ),
        pytest.param(
            put("source", {"name": "x", "sha256": "0" * 64, "notes": [1]}),
            "source notes",
            id="note of a number",
        ),
        pytest.param(put("source", {"name": "x", "sha256": "A" * 64}), "lower-case", id="upper-case hash"),
        pytest.param(put("tools", {"onnx": 1}), "tools 'onnx'", id="tool version as number"),
        pytest.param(put("layers", [{}]), "each item of layers lacks the key", id="layer without a name"),
        pytest.param(within("accuracy", verdict="GREAT"), "accuracy verdict must be", id="unknown verdict"),
        pytest.param(within("accuracy", verdict={}), "accuracy verdict must be", id="verdict as object"),
        pytest.param(within("accuracy", n="many"), "accuracy n must be an integer", id="count as text"),
        pytest.param(within("accuracy", drop_ci95=[1]), "accuracy drop_ci95 must be a list", id="half"),
        pytest.param(
            within("quantization", pareto=[7]), "quantization pareto must be an obj", id="no object"
        ),
        pytest.param(within("quantization", repair={}), "quantization repair lacks the key", id="no repair"),
        pytest.param(put("latency", [{"median_ms": 1}]), "lacks the key 'batch'", id="latency of nothing"),
        pytest.param(latency(min_ms="fast"), "min_ms must be a finite number", id="latency as text"),
        pytest.param(latency(min_ms=10**400), "min_ms must be a finite number", id="latency beyond a float"),
        pytest.param(latency(providers=7), "providers must be a list", id="providers of the wrong type"),
        pytest.param(latency(environment=7), "environment must be an object", id="machine of a number"),
        pytest.param(put("providers", {"CPU": 2}), "from 0 to 1", id="share beyond 1"),
        pytest.param(
            lambda raw: raw["files"][FLOAT].update(role="boss"), "role must be one of", id="unknown role"
        ),
        pytest.param(lambda raw: raw["files"][FLOAT].update(size=-1), "size must be", id="negative size"),
        pytest.param(lambda raw: raw["files"][FLOAT].update(size=1.5), "size must be", id="fractional size"),
        pytest.param(
            lambda raw: raw["files"].update({FLOAT.upper(): raw["files"][FLOAT]}),
            "twice",
            id="same but for case",
        ),
    ],
)
def test_a_malformed_manifest_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(bundle)
    assert str(bundle / MANIFEST) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"\xff\xfe", b'{"format_version": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000],
    ids=["empty", "list", "cut", "not UTF-8", "NaN", "duplicate key", "nested"],
)
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Path, text: bytes) -> None:
    (bundle / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match="manifest"):
        read_bundle(bundle)


@pytest.mark.parametrize("where", ["missing", "empty", "file"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    if where == "empty":
        path.mkdir()
    elif where == "file":
        path.write_text("text")
    with pytest.raises(BundleError, match=MANIFEST.replace(".", r"\.")):
        read_bundle(path)


# Writing


def test_an_empty_folder_becomes_a_bundle(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", files, manifest_of(files))
    verify_bundle(tmp_path / "bundle")


def test_a_bundle_is_replaced_whole(bundle: Path, files: dict[str, bytes]) -> None:
    fewer = {name: data for name, data in files.items() if name != "config.json"}
    write_bundle(bundle, fewer, manifest_of(fewer))
    assert not (bundle / "config.json").exists()
    assert list(bundle.parent.iterdir()) == [bundle]
    verify_bundle(bundle)


@pytest.mark.parametrize("suffix", ["tmp", "old"])
def test_what_a_killed_run_left_is_removed_by_the_next(
    bundle: Path, files: dict[str, bytes], suffix: str
) -> None:
    (bundle.parent / f".bundle.{0:016}.{suffix}" / "onnx").mkdir(parents=True)
    with draft_beside(bundle, folder=True) as of_one_that_lives:
        write_bundle(bundle, files, manifest_of(files))
        assert set(bundle.parent.iterdir()) == {bundle, of_one_that_lives}


def test_a_bundle_that_a_killed_run_had_put_aside_is_found_by_the_next_reader(bundle: Path) -> None:
    bundle.rename(bundle.parent / f".bundle.{0:016}.old")
    verify_bundle(bundle)
    assert list(bundle.parent.iterdir()) == [bundle]


def test_a_bundle_that_a_killed_run_had_put_aside_is_not_swept_by_the_next_writer(
    bundle: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.rename(bundle.parent / f".bundle.{0:016}.old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(bundle, files, manifest_of(files))
    verify_bundle(bundle)


def test_a_reader_finds_a_bundle_at_every_moment_of_its_replacement(
    bundle: Path, files: dict[str, bytes]
) -> None:
    """Each version has another model, so half of one and half of the other would be noticed."""
    done = threading.Event()

    def write() -> None:
        for index in range(30):
            changed = files | {"config.json": b"{}" + b" " * index}
            write_bundle(bundle, changed, manifest_of(changed))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        verify_bundle(bundle)
        reads += 1
    writer.join()
    assert reads > 0


@pytest.mark.parametrize(
    "name", [".bundle.tmp", ".bundle.mine", f".other.{0:016}.tmp", f"bundle.{0:016}.tmp"]
)
def test_what_only_looks_like_a_draft_is_kept(bundle: Path, files: dict[str, bytes], name: str) -> None:
    (bundle.parent / name).mkdir()
    os.utime(bundle.parent / name, (0, 0))
    write_bundle(bundle, files, manifest_of(files))
    assert (bundle.parent / name).is_dir()


def test_the_manifest_alone_can_be_read_of_a_damaged_bundle(bundle: Path) -> None:
    (bundle / FLOAT).unlink()
    assert FLOAT in read_manifest(bundle).manifest.files
    with pytest.raises(BundleError, match="lacks"):
        read_bundle(bundle)


def test_a_manifest_that_claims_gigabytes_makes_nobody_set_them_aside(bundle: Path) -> None:
    edit(bundle, lambda raw: raw["files"][FLOAT].update(size=2**31))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            read_bundle(bundle).read(FLOAT)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_parents_are_made(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_bundle(tmp_path / "a" / "b", files, manifest_of(files))
    verify_bundle(tmp_path / "a" / "b")


@pytest.mark.parametrize("what", ["foreign folder", "foreign file in a bundle", "file", "link"])
def test_what_is_not_ours_is_never_replaced(bundle: Path, files: dict[str, bytes], what: str) -> None:
    target = bundle.parent / "target"
    if what == "foreign folder":
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
    elif what == "foreign file in a bundle":
        target = bundle
        (target / "thesis.txt").write_text("years of work")
    elif what == "file":
        target.write_text("years of work")
    else:
        target.symlink_to(bundle)
    before = sorted(str(p) for p in bundle.parent.rglob("*"))
    with pytest.raises(BundleError, match="choose another output"):
        write_bundle(target, files, manifest_of(files))
    assert sorted(str(p) for p in bundle.parent.rglob("*")) == before


def full_disk(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_failure_while_writing_leaves_the_old_bundle(
    bundle: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(bundle, files, manifest_of(files))
    monkeypatch.undo()
    assert list(bundle.parent.iterdir()) == [bundle]
    verify_bundle(bundle)


def test_a_failure_of_the_last_rename_brings_the_old_bundle_back(
    bundle: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def no_drafts(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(replace, "_exchanger", lambda: None)  # as where names cannot be exchanged
    monkeypatch.setattr(Path, "rename", no_drafts)
    with pytest.raises(BundleError, match="Input/output error"):
        write_bundle(bundle, files, manifest_of(files))
    assert list(bundle.parent.iterdir()) == [bundle]
    verify_bundle(bundle)


def test_a_manifest_that_does_not_describe_the_files_is_refused(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    manifest = manifest_of(files)
    with pytest.raises(BundleError, match=r"differ in config\.json"):
        write_bundle(tmp_path / "b", {n: d for n, d in files.items() if n != "config.json"}, manifest)
    with pytest.raises(BundleError, match=r"SHA-256 for config\.json"):
        write_bundle(tmp_path / "b", files | {"config.json": b"{}"}, manifest)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", "7", None])
def test_a_manifest_that_is_no_json_is_refused(
    tmp_path: Path, files: dict[str, bytes], value: object
) -> None:
    method: Any = dataclasses.replace(METHOD, probe_db=value)  # type: ignore[arg-type]
    manifest = dataclasses.replace(manifest_of(files), quantization=recipe(method))
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "b", files, manifest)
    assert not list(tmp_path.iterdir())


def test_a_path_that_leaves_the_folder_cannot_be_written(files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        manifest_of({**files, "../up": b""})


# Golden cases


def test_golden_cases_come_back(bundle: Path) -> None:
    assert read_golden(read_bundle(bundle)) == (
        GoldenCase("golden/0.png", QUANTIZED, (1.0, -2.5, 0.25), 0.05),
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_golden_values_are_kept_under_the_name_of_their_output(
    tmp_path: Path, files: dict[str, bytes], output: str
) -> None:
    case = GoldenCase("golden/0.png", QUANTIZED, (0.5, -1.0), 0.1, output)
    files[EXPECTED] = golden_bytes([case])
    assert json.loads(files[EXPECTED])[0][output] == [0.5, -1.0]
    assert read_golden(write_bundle(tmp_path / "b", files, manifest_of(files))) == (case,)


@pytest.mark.parametrize("arithmetic", [None, Arithmetic.EXACT, Arithmetic.SATURATING])
def test_golden_cases_say_in_which_arithmetic_they_were_computed(
    tmp_path: Path, files: dict[str, bytes], arithmetic: Arithmetic | None
) -> None:
    case = GoldenCase("golden/0.png", QUANTIZED, (0.5, -1.0), 0.1, arithmetic=arithmetic)
    files[EXPECTED] = golden_bytes([case])
    assert ("arithmetic" in json.loads(files[EXPECTED])[0]) is (arithmetic is not None)
    assert read_golden(write_bundle(tmp_path / "b", files, manifest_of(files))) == (case,)


def test_a_bundle_without_golden_cases_has_none(tmp_path: Path, files: dict[str, bytes]) -> None:
    del files[EXPECTED]
    assert read_golden(write_bundle(tmp_path / "b", files, manifest_of(files))) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "must be a list"),
        (b'[{"image": "golden/0.png"}]', "lacks the key"),
        (b'[{"image": "x.png", "model": "onnx/model.onnx", "logits": [1], "tolerance": 0}]', "does not list"),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "logits": ["1"], "tolerance": 0}]',
            "logits",
        ),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "logits": [1], "tolerance": -1}]',
            "negative",
        ),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "patches": [1], "tolerance": 0}]',
            "unknown key 'patches'",
        ),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "logits": [1], "tolerance": 0, '
            b'"arithmetic": "integer"}]',
            "arithmetic must be one of exact, saturating",
        ),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "logits": [1], "tolerance": 0, '
            b'"arithmetic": ["exact"]}]',
            "arithmetic",
        ),
        (
            b'[{"image": "golden/0.png", "model": "onnx/model.onnx", "logits": [1], "cls_embedding": [1], '
            b'"tolerance": 0}]',
            "unknown key 'cls_embedding'",
        ),
    ],
)
def test_malformed_golden_cases_are_refused(
    tmp_path: Path, files: dict[str, bytes], content: bytes, message: str
) -> None:
    files[EXPECTED] = content
    bundle = write_bundle(tmp_path / "b", files, manifest_of(files))
    with pytest.raises(BundleError, match=message):
        read_golden(bundle)


# Any manifest

RAW = manifest_of({FLOAT: b"f", QUANTIZED: b"q"}).to_json()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_manifest_survives_its_json() -> None:
    assert Manifest.from_json(json.loads(json.dumps(RAW))).to_json() == RAW


@given(st.sampled_from(sorted(RAW)), json_values)
def test_any_value_in_place_of_a_field_gives_a_manifest_or_a_value_error(key: str, value: object) -> None:
    raw = copy.deepcopy(RAW)
    raw[key] = value
    try:
        manifest = Manifest.from_json(raw)
    except ValueError:
        return
    assert manifest.to_json()[key] == value


@given(st.binary(max_size=60))
def test_any_bytes_give_json_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert fields.parse_json(data, "text") == json.loads(data)
