"""Embedders as files: float and INT8, checked against the classifier that they come from."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from vit_edge.arrays import Pixels
from vit_edge.embedding_report import Fidelity
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import (
    PORTABLE_TARGET,
    at_versions,
    check_target,
    for_target,
    settings_for,
)
from vit_edge.host.convert.int8 import mend_of, metadata_of, quantized
from vit_edge.host.convert.one_file import QuantizeFileSettings, Written
from vit_edge.host.convert.onnx_io import check_output, finish, read_metadata, save_onnx
from vit_edge.host.convert.optimize import image_size, normalisation_of
from vit_edge.host.convert.parity import REWRITE_TOLERANCE, check_parity, random_images
from vit_edge.host.embedder.graph import FeatureGraph, feature_graph
from vit_edge.host.embedder.quantize import check_aims, embedder_search, searched
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import runner
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Quantization
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity
from vit_edge.progress import Progress
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.steps import Doing, explained
from vit_edge.spec import AS_WRITTEN, LOGITS, PORTABLE, ModelForm, TargetSpec, VersionsWanted
from vit_edge.targets import load_target
from vit_edge.verify.fidelity import fidelity


@dataclasses.dataclass(frozen=True)
class EmbedderAim:
    """What the forms of an INT8 embedder's layers are chosen for."""

    chosen: Quantization  # of the classifier: the goal, and what time it takes
    outputs: tuple[str, ...] = ()  # those that are used; empty: all


@dataclasses.dataclass(frozen=True, eq=False)
class FloatEmbedder:
    """A float32 embedder, made before the classifier's graph is folded for quantization."""

    features: FeatureGraph
    model: onnx.ModelProto  # finished
    parity: Parity  # of the logits that the classifier's head makes of the embeddings


def float_embedder(
    original: onnx.ModelProto,
    canonical: Canonical,
    source: Source,
    form: ModelForm = PORTABLE,
    taps: Sequence[int] = (),
) -> FloatEmbedder:
    """The float32 embedder of a classifier.

    Args:
        original: the graph that `canonical` was made from.
        canonical: from `canonicalise`, not folded.
        source: what both come from.
        form: batch and input of the file.
        taps: as in `feature_graph`.

    Raises:
        ContractError: the model has no grid of patches.
        UsageError: as in `feature_graph`.
        ParityError: the head on these embeddings gives other logits than the original.
    """
    features, name = feature_graph(canonical, taps=taps), canonical.name
    settings = LowerSettings(form, normalisation_of(source.preprocess))
    with_head = lower(features.canonical, dataclasses.replace(settings, outputs=(*features.outputs, LOGITS)))
    parity = check_parity(
        runner(original, name),
        runner(with_head, f"the embedder of {name}", LOGITS),
        random_images(*image_size(canonical)),
        REWRITE_TOLERANCE,
        f"the embedder of {name} differs from the classifier",
    )
    model = lower(features.canonical, dataclasses.replace(settings, outputs=features.outputs))
    return FloatEmbedder(
        features, finish(model, dataclasses.replace(metadata_of(source), labels=None)), parity
    )


def int8_embedder(
    plain: FeatureGraph, search: Search, aim: EmbedderAim, source: Source, target: TargetSpec
) -> tuple[onnx.ModelProto, Quantization]:
    """The finished INT8 embedder for one target, and how it is quantized.

    Args:
        plain: the embedder's graph, made before `search` folded the classifier's.
        search: what is known about the classifier.
        aim: what its forms are chosen for.
        source: what the classifier comes from.
        target: for which device, one of those that the search was made for.

    Raises:
        UsageError: the model has no output that is aimed at.
    """
    folded = feature_graph(search.canonical, plain.norm, plain.taps)
    own = embedder_search(folded, search, target.arithmetic, source.preprocess, aim.outputs)
    return written_embedder(folded, searched(own, aim.chosen), source, target)


def written_embedder(
    folded: FeatureGraph, found: Quantization, source: Source, target: TargetSpec
) -> tuple[onnx.ModelProto, Quantization]:
    """The finished file of a quantization, and what of it the target takes."""
    taken = for_target(found, target)
    made = quantized(folded.canonical, taken, target, source, folded.outputs)
    return finish(made, dataclasses.replace(read_metadata(made, source.name), labels=None)), taken


def embedding_fidelity(
    reference: onnx.ModelProto, other: onnx.ModelProto, images: Sequence[Pixels]
) -> dict[str, Fidelity]:
    """How close an INT8 embedder is to the float one, by output, as the device's runtime runs them.

    Args:
        reference: a finished float embedder.
        other: a finished INT8 embedder of the same model.
        images: uint8 (H, W, 3) each.
    """
    made = []
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        for index, model in enumerate((reference, other)):
            path = Path(folder, f"{index}.onnx")
            save_onnx(model, path)
            session = Session(read_model(path), SessionSettings("cpu"))
            rows = [session.outputs(pixels[None]) for pixels in images]
            made.append({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    return {name: fidelity(values, made[1][name]) for name, values in made[0].items()}


@dataclasses.dataclass(frozen=True)
class WrittenEmbedder:
    """An embedder file that was written."""

    written: Written
    outputs: Mapping[str, tuple[int | None, ...]]  # name -> shape for one image
    fidelity: Mapping[str, Fidelity] = dataclasses.field(default_factory=dict)  # of INT8, by output


def export_embedder(
    source: Source,
    out: str | os.PathLike[str],
    batch: int | None = None,
    versions: VersionsWanted = AS_WRITTEN,
    taps: Sequence[int] = (),
) -> WrittenEmbedder:
    """Write the float32 embedder of a source.

    Args:
        source: from `resolve`; a classifier.
        out: the file.
        batch: a fixed batch size, or None for a dynamic one.
        versions: of the file.
        taps: as in `feature_graph`.

    Raises:
        ContractError: the source is no canonical ViT, and so has no grid of patches.
        VitEdgeError: as in `export` and `save_onnx`.
    """
    form = ModelForm(batch).at(versions)
    check_output(out)
    original, _ = export(source)
    canonical = canonical_of(source, original)
    made = float_embedder(original, canonical, source, form, taps)
    written = Written(Path(out), save_onnx(made.model, out), made.parity, canonical)
    return WrittenEmbedder(written, read_model(out).outputs)


def quantize_embedder_file(
    source: Source,
    out: str | os.PathLike[str],
    settings: QuantizeFileSettings,
    progress: Progress | None = None,
    outputs: tuple[str, ...] = (),
) -> WrittenEmbedder:
    """Quantize a source and write its INT8 embedder for one target.

    Its fidelity is measured on some of the calibration images. `outputs` are those that are used, see
    `EmbedderAim`.

    Raises:
        UsageError: the model has no such output.
        ContractError: the source is no canonical ViT, and so has no grid of patches.
        VitEdgeError: as in `quantize_model`.
    """
    target = at_versions(settings.target or load_target(PORTABLE_TARGET), settings.versions)
    check_target(target)
    check_output(out)
    original, _ = export(source)
    canonical = canonical_of(source, original)
    plain = float_embedder(original, canonical, source, taps=settings.taps)
    check_aims(plain.features, outputs)  # refused before minutes of work
    paths = list_images(settings.calibration, settings.quantize.limits).paths
    wanted = settings_for(settings.quantize, [target])
    doing = Doing("calibrate", progress)
    with explained(source.name, doing, mend_of(settings.quantize)):
        search = search_of(canonical, paths, source.preprocess, wanted, doing)
        aim = EmbedderAim(search.first(), outputs)
        model, taken = int8_embedder(plain.features, search, aim, source, target)
        close = embedding_fidelity(plain.model, model, search.calibration.probed)
    written = Written(Path(out), save_onnx(model, out), None, canonical, taken)
    return WrittenEmbedder(written, read_model(out).outputs, close)
