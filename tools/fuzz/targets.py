"""What is fuzzed: the readers of everything that comes from outside.

A target takes any bytes. It returns whether they were accepted or refused with one of our errors, and lets
every other exception through: that is a finding.
"""

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tools.hostile.manifests import manifest
from tools.hostile.parts import encoded
from tools.make_hostile import DEFAULT as HOSTILE
from tools.make_hostile import ROOT
from vit_edge.bundle import MANIFEST, verify_bundle
from vit_edge.errors import ImageError, TargetError, VitEdgeError
from vit_edge.fields import parse_json
from vit_edge.golden import EXPECTED, read_golden
from vit_edge.manifest import Manifest
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
from vit_edge.runtime.image.preprocess import Decoding, load_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.header import read_header
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode
from vit_edge.targets import load_target
from vit_edge.targets.loader import BUILT_IN

DATA = ROOT / "tests" / "data"
MODEL = "onnx/model.onnx"
LONGEST_MESSAGE = 2000  # characters

_LIMITS = DecodeLimits(max_pixels=1_000_000)
_EVERY_FORMAT = dataclasses.replace(_LIMITS, formats=tuple(ImageFormat))
_HALF = (0.5, 0.5, 0.5)
_SPEC = PreprocessSpec(16, 20, ResizeMode.SHORT_SIDE, (18, 18), Interpolation.BICUBIC, _HALF, _HALF)


@dataclasses.dataclass(frozen=True)
class FuzzTarget:
    """One reader, and files from which mutation begins."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def run_decode(data: bytes, limits: DecodeLimits = _LIMITS) -> None:
    """Any bytes are an RGB image within the limits, or an ImageError; as are the pixels of a model's size."""
    try:
        image = decode(data, limits)
        if image.mode != "RGB" or not 1 <= image.width * image.height <= limits.max_pixels:
            raise AssertionError(f"decoded to {image.mode} {image.size}")
        pixels = load_pixels(data, _SPEC, limits, Decoding.FAST)
    except ImageError as error:
        _check_message(error)
        return
    if pixels.shape != (_SPEC.height, _SPEC.width, 3):
        raise AssertionError(f"pixels of shape {pixels.shape}")


def run_decode_any(data: bytes) -> None:
    """The same with every format allowed that can be."""
    run_decode(data, _EVERY_FORMAT)


def run_manifest(data: bytes) -> None:
    """Any bytes are a manifest that survives being written and read, or a ValueError of one line."""
    try:
        found = Manifest.from_json(parse_json(data, "the manifest"))
    except ValueError as error:
        _check_message(error)
        return
    text = json.dumps(found.to_json(), allow_nan=False)
    if Manifest.from_json(parse_json(text, "the manifest")) != found:
        raise AssertionError("a manifest changes when it is written and read")


def run_onnx(data: bytes) -> None:
    """Any bytes have a header or give a ValueError; as a file they are a model or give one of our errors."""
    try:
        read_header(data)
    except ValueError as error:
        _check_message(error)
    path = _scratch() / "model.onnx"
    path.write_bytes(data)
    try:
        read_model(path)
    except VitEdgeError as error:
        _check_message(error)


def run_bundle(data: bytes) -> None:
    """A good bundle, one part of which is replaced by the bytes after the first; hashes are put right.

    The first byte says which part: the manifest, the golden answers, the model, or nothing but the size and
    hash that the manifest records of the model.
    """
    part, content = data[:1], data[1:]
    folder = _scratch() / "bundle"
    files = {EXPECTED: b"[]", MODEL: _good_model(), "golden/0.png": b"no picture"}
    match part[0] % 4 if part else 0:
        case 1:
            files[EXPECTED] = content
        case 2:
            files[MODEL] = content
    entries = {name: _entry(name, each) for name, each in files.items()}
    if part and part[0] % 4 == 3:
        entries[MODEL] = _entry(MODEL, content)
    text = json.dumps(manifest() | {"files": entries}).encode()
    for name, each in {**files, MANIFEST: content if part and part[0] % 4 == 0 else text}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(each)
    try:
        read_golden(verify_bundle(folder))
        read_model(folder)
    except VitEdgeError as error:
        _check_message(error)


def run_target(data: bytes) -> None:
    """Any bytes are a target, or a TargetError."""
    folder = _scratch() / "targets"
    if not folder.exists():
        folder.mkdir()
        for path in BUILT_IN.glob("*.toml"):
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "fuzzed.toml").write_bytes(data)
    try:
        load_target("fuzzed", folder)
    except TargetError as error:
        _check_message(error)


def _check_message(error: Exception) -> None:
    message = str(error)
    if not message or len(message) > LONGEST_MESSAGE:
        raise AssertionError(f"a message of {len(message)} characters: {message[:200]!r}") from error


@functools.cache
def _scratch() -> Path:
    """A folder of this process, in memory where the system has such a place."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
    keep = tempfile.TemporaryDirectory(
        prefix="vit-edge-fuzz-", dir=memory if os.access(memory, os.W_OK) else None
    )
    _kept.append(keep)
    return Path(keep.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _good_model() -> bytes:
    return (DATA / "dynamic.onnx").read_bytes()


def _entry(name: str, data: bytes) -> dict[str, object]:
    role = "float" if name == MODEL else "golden"
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "role": role}


def _all(*folders: Path) -> list[bytes]:
    return [path.read_bytes() for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]


def _bundle_seeds() -> list[bytes]:
    case = {"image": "golden/0.png", "model": MODEL, "logits": [1.0, 2.0], "tolerance": 0.1}
    parts = {0: _all(HOSTILE / "manifests"), 1: [json.dumps([case]).encode()], 2: _all(HOSTILE / "models")}
    return [bytes([part]) + data for part, seeds in parts.items() for data in seeds]


def _images() -> list[bytes]:
    """A small picture in every format."""
    picture = Image.linear_gradient("L").resize((24, 17)).convert("RGB")
    return [encoded(picture, form.name) for form in ImageFormat]


TARGETS = {
    "decode": FuzzTarget(run_decode, lambda: _all(HOSTILE / "images")),
    "decode_any": FuzzTarget(run_decode_any, lambda: [*_images(), *_all(HOSTILE / "images")]),
    "manifest": FuzzTarget(run_manifest, lambda: _all(HOSTILE / "manifests")),
    "bundle": FuzzTarget(run_bundle, _bundle_seeds),
    "onnx": FuzzTarget(run_onnx, lambda: _all(HOSTILE / "models", DATA)),
    "target": FuzzTarget(run_target, lambda: _all(HOSTILE / "targets", BUILT_IN)),
}
