"""A bundle of the embedded model, made in seconds: a float and an INT8 file, and their golden cases."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.shared import made_once
from tools.digits import make_folders
from vit_edge.bundle import FileEntry, Role, write_bundle
from vit_edge.host.bundling.golden import golden_files
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.one_file import QuantizeFileSettings, quantize_model
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.convert.optimize import CheckImages, image_size, optimized
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import Manifest, SourceRecord
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.spec import PORTABLE

ROOT = Path(__file__).resolve().parents[2]
FLOAT, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"  # for transformers.js


class Digits(NamedTuple):
    """The bundle, and a folder of images for it."""

    bundle: Path
    images: Path


def digits_below(folder: Path) -> Digits:
    """Both, made once in the folder of the run; left unchanged.

    The models are the embedded classifier's: float, and INT8 by the preset `static`, with a dynamic batch.
    """
    place = made_once(folder / "digits_package", _make)
    return Digits(place / "bundle", place / "images")


def _make(place: Path) -> None:
    images, made = place / "images", place / "made"
    make_folders(images)
    (made / "onnx").mkdir(parents=True)
    source = resolve(str(ROOT / "models" / "digits_vit"), SourceOptions())
    settings = QuantizeFileSettings(images / "calibration", quantize=QuantizeSettings(Preset.STATIC))
    quantize_model(source, made / INT8, settings)
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name)
    plain, _ = optimized(exported, canonical, PORTABLE, CheckImages(image_size(canonical)))
    save_onnx(finish(plain, metadata_of(source)), made / FLOAT)
    pixels = [load_pixels(path, source.preprocess) for path in list_images(images / "test").paths[:3]]
    models = {name: read_model(made / name) for name in (FLOAT, INT8)}
    files = {FLOAT: models[FLOAT].data, INT8: models[INT8].data}
    files |= golden_files([models], np.stack(pixels))
    configs = {CONFIG: source.huggingface_config, PROCESSOR: source.preprocessor_config}
    files |= {name: json.dumps(config).encode() for name, config in configs.items()}
    roles = {FLOAT: Role.FLOAT, INT8: Role.QUANTIZED, CONFIG: Role.CONFIG, PROCESSOR: Role.CONFIG}
    manifest = Manifest(
        files={name: FileEntry.of(data, roles.get(name, Role.GOLDEN)) for name, data in files.items()},
        default_model=INT8,
        preprocess=source.preprocess,
        source=SourceRecord("digits", "0" * 64),
        tools={},
    )
    write_bundle(place / "bundle", files, manifest)
