"""The file for Rockchip's toolkit, and one quantization of it after another, built and run by the toolkit."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx

from vit_edge.bundle import Bundle
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.host.bundling.beside import IMAGES
from vit_edge.host.compilers import rockchip
from vit_edge.host.compilers.rockchip_layers import integer_share
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.hybrid.choose import Choice, choice, input_ranges
from vit_edge.host.hybrid.products import Product, products_of
from vit_edge.host.hybrid.rounding import logits_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source
from vit_edge.manifest import compiler_name, lowered_name
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import PreprocessSpec, TargetSpec
from vit_edge.verify.metrics import agreement, logit_sqnr_db

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What every case starts from."""

    name: str
    """Of the source."""
    model: Path
    calibration: tuple[Path, ...]
    images: tuple[Path, ...]
    exact: Floats
    """The float file's logits for `images`."""
    products: tuple[Product, ...]

    def fewer(self, count: int | None) -> Self:
        """The same with so many of the images, spread evenly over them; None: with all."""
        images = evenly(self.images, count or len(self.images))
        places = [self.images.index(image) for image in images]
        return dataclasses.replace(self, images=images, exact=self.exact[places])


def from_source(
    source: Source, target: TargetSpec, given: argparse.Namespace, work: Path
) -> tuple[Prepared, Choice]:
    """The target's float file, folded for quantization, and types and ranges, as `build` makes them.

    Args:
        source: from `resolve`.
        target: whose file it is.
        given: `calib`, `data`, `count`, `cache` and `share` of the command.
        work: an existing folder.
    """
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name)
    settings = QuantizeSettings(Preset.STATIC, cache=given.cache)
    paths = list_images(given.calib).paths
    folded = fold(canonical, calibrate(canonical, paths, source.preprocess, settings))
    lowering = LowerSettings(target.form, normalisation_of(source.preprocess))
    model = finish(lower(folded.canonical, lowering), metadata_of(source))
    save_onnx(model, work / "model.onnx")
    start = _prepared(model, source.name, source.preprocess, evenly(paths, IMAGES), given, work)
    share = 1.0 - target.wide_macs if given.share is None else given.share
    known = input_ranges(plan_set(folded, ()).exact)
    return start, choice(model, feeds_of(start.calibration), share, known, _told)


def from_bundle(
    bundle: Bundle, target: TargetSpec, given: argparse.Namespace, work: Path
) -> tuple[Prepared, Choice]:
    """The target's float file of a bundle, and the types and ranges that lie beside it.

    Raises:
        BundleError: the bundle was not built for the target.
        UsageError: the types and ranges are not those of this version.
    """
    told = compiler_name(target.name)
    try:
        chosen = Choice.from_json(json.loads(bundle.read(told)))
    except ValueError as error:
        if isinstance(error, VitEdgeError):
            raise
        raise UsageError(f"{bundle.path / told} cannot be read ({error}); build the bundle again") from None
    data = bundle.read(lowered_name(target.name))
    (work / "model.onnx").write_bytes(data)
    used = evenly(list_images(given.calib).paths, QuantizeSettings().images)  # as `build` takes them
    name, preprocess = bundle.manifest.source.name, bundle.manifest.preprocess
    model = onnx.load_from_string(data)
    return _prepared(model, name, preprocess, evenly(used, IMAGES), given, work), chosen


def _prepared(
    model: onnx.ModelProto,
    name: str,
    preprocess: PreprocessSpec,
    calibration: Sequence[Path],
    given: argparse.Namespace,
    work: Path,
) -> Prepared:
    ranging = _arrays(preprocess, calibration, work / "calibration")
    images = _arrays(preprocess, evenly(list_images(given.data).paths, given.count), work / "images")
    exact = logits_of(model, feeds_of(images))
    return Prepared(name, work / "model.onnx", ranging, images, exact, tuple(products_of(model)))


def _told(done: int, count: int) -> None:
    print(f"product {done} of {count}", file=sys.stderr, flush=True)


def _arrays(preprocess: PreprocessSpec, paths: Sequence[Path], out: Path) -> tuple[Path, ...]:
    """Images as the file takes them, each in a `.npy` of its own."""
    out.mkdir(exist_ok=True)
    written = []
    for index, path in enumerate(paths):
        written.append(out / f"{index}.npy")
        np.save(written[-1], normalize(load_pixels(path, preprocess)[None], preprocess))
    return tuple(written)


def feeds_of(paths: Sequence[Path]) -> list[Mapping[str, Floats]]:
    """What the file takes, of each image."""
    return [{"pixel_values": np.load(path)} for path in paths]


def case(
    start: Prepared, toolkit: Path, platform: str, out: Path, quantization: Mapping[str, Any]
) -> tuple[dict[str, Any], rockchip.Layers]:
    """One quantization built and run by the toolkit: its figures, and the compiler's table of layers.

    Args:
        start: file and images.
        toolkit: the interpreter of the toolkit's environment.
        platform: what the toolkit calls the device.
        out: a folder for what the toolkit writes; answers that are there are not asked for again.
        quantization: `ranges` and `narrow` of ours, or an `algorithm` of the toolkit's.

    Raises:
        UsageError: the toolkit fails.
    """
    print(f"the toolkit works on {out.name}", file=sys.stderr, flush=True)
    job = rockchip.job_of(start.model, platform, start.calibration, start.images)
    layers = rockchip.run_toolkit(toolkit, {**job, **quantization}, out, "keep its output with --keep DIR")
    made = np.load(out / "logits.npy").reshape(start.exact.shape)
    applied = json.loads((out / "case.json").read_text())["applied"]
    row = {
        "images": len(start.images),
        "agreement_with_float": round(agreement(start.exact, made), 2),
        "sqnr_to_float_db": round(logit_sqnr_db(start.exact, made), 2),
        "macs_in_w8a8": round(100 * integer_share(layers, start.products), 2),
        "on_the_cpu": list(rockchip.left_to_cpu(layers)),
        "ranges_of_ours": len(applied),
    }
    return row, layers
