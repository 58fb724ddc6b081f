"""From what was measured to the facts of a report."""

import dataclasses
import io
import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vit_edge import __version__
from vit_edge.errors import ModelError
from vit_edge.host.report.facts import Answer, Facts, FlippedImage, ModelFacts, WorstInput
from vit_edge.host.report.ranges import ActivationRange, Ranges, observe_ranges
from vit_edge.manifest import LayerRecord, Manifest, OperatorTime
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.measure.benchmark import BenchReport
from vit_edge.runtime.measure.profile import profile
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.source_parity import not_proven
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.flips import Flip, Guess

SHOWN_FLIPS = 24
THUMBNAIL = 112  # pixels of the longer side, at most
OBSERVED_IMAGES = 4  # for the ranges; each gives hundreds of tokens
WORST_LAYERS = 4
_TWO_FILES = not_proven("two files were compared, without the source that they come from")


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Models that were compared and timed together."""

    names: tuple[str, ...]
    """The float reference first; as the report is to call them."""
    models: tuple[ModelFile, ...]
    comparisons: tuple[Comparison, ...]
    """With the reference, one per other model."""
    bench: BenchReport
    """Of all models."""
    session: SessionSettings
    """That they ran with."""


def gather(
    measured: Measured, judged: str, title: str, manifest: Manifest | None = None, held_out: bool = False
) -> Facts:
    """Profile the reference and the judged model, observe what the latter quantizes, and put all together.

    Args:
        measured: models, comparisons and timings.
        judged: which of the models the report is about.
        title: of the report.
        manifest: of the bundle that the judged model comes from, if it does: decisions, recipe, versions.
        held_out: the images were taken from those given for calibration.

    Raises:
        ModelError: a model cannot be run with its inner tensors as outputs, or none says its preprocessing.
        ImageError: an image that was compared cannot be read any more.
    """
    names = measured.names
    place = names.index(judged)
    comparison, spec = measured.comparisons[place - 1], _preprocess(measured.models)
    images = comparison.images
    flips = comparison.flips
    pixels = np.stack([load_pixels(path, spec, images.limits) for path in images.paths[:OBSERVED_IMAGES]])
    layers = () if manifest is None else manifest.layers
    ranges = observe_ranges(measured.models[place], spec, pixels)
    machine = measured.bench.machine
    return Facts(
        title=title,
        data=images.name,
        labelled=images.labelled,
        held_out=held_out,
        reference=names[0],
        judged=judged,
        default=None if manifest is None else manifest.default_model,
        gate=comparison.report,
        models=tuple(_model_facts(measured, index, index in (0, place), spec) for index in range(len(names))),
        flips=tuple(_flipped(flip, comparison, spec) for flip in _telling(flips, comparison)[:SHOWN_FLIPS]),
        flips_total=len(flips),
        layers=layers,
        ranges=ranges,
        worst=tuple(_worst(ranges, layers)),
        recipe=None if manifest is None else manifest.quantization,
        versions={"vit-edge": __version__, "onnxruntime": machine.onnxruntime, "numpy": np.__version__}
        if manifest is None
        else manifest.tools,
        machine=machine,
        threads=measured.session.threads,
        source_parity=_TWO_FILES if manifest is None else manifest.source_parity,
        findings=() if manifest is None else manifest.findings,
    )


def _preprocess(models: Sequence[ModelFile]) -> PreprocessSpec:
    """Of the first model that says it; quantizers of other makers drop it."""
    for model in models:
        if model.preprocess is not None:
            return model.preprocess
    raise ModelError(f"{models[0].path} does not say how images are preprocessed; export it with vit-edge")


def _model_facts(measured: Measured, index: int, profiled: bool, spec: PreprocessSpec) -> ModelFacts:
    model, entry = measured.models[index], measured.bench.models[index]
    complete = dataclasses.replace(model, preprocess=model.preprocess or spec)
    operators: tuple[OperatorTime, ...] = profile(complete, measured.session) if profiled else ()
    return ModelFacts(
        name=measured.names[index],
        sha256=model.sha256,
        size_mb=entry.size_mb,
        providers=entry.providers,
        latency=entry.latency,
        ratio=measured.bench.ratios[index],
        times_ms=tuple(sorted(measured.bench.times[:, index].tolist())),
        peak_rss_mb=entry.peak_rss_mb,
        operators=operators,
        gate=measured.comparisons[index - 1].report if index else None,
    )


def _telling(flips: Sequence[Flip], comparison: Comparison) -> list[Flip]:
    """Those that cost accuracy first, then those that the float model was surest of."""
    targets = comparison.images.targets

    def key(flip: Flip) -> tuple[bool, float]:
        known = targets is not None and targets.ndim == 1
        lost = known and targets is not None and flip.float_top[0].index == targets[flip.row]
        return not lost, -flip.float_top[0].probability

    return sorted(flips, key=key)


def _flipped(flip: Flip, comparison: Comparison, spec: PreprocessSpec) -> FlippedImage:
    path = comparison.images.paths[flip.row]
    labels = comparison.labels
    return FlippedImage(
        image=path.name,
        truth=comparison.truth(flip.row),
        float_top=_answers(labels, flip.float_top),
        quant_top=_answers(labels, flip.quant_top),
        thumbnail=_thumbnail(load_pixels(path, spec, comparison.images.limits)),
    )


def _answers(labels: Sequence[str] | None, guesses: Sequence[Guess]) -> tuple[Answer, ...]:
    return tuple(Answer(_label(labels, guess.index), guess.probability) for guess in guesses)


def _label(labels: Sequence[str] | None, index: int) -> str:
    return str(index) if labels is None else labels[index]


def _thumbnail(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75, optimize=True)
    return stream.getvalue()


def _worst(ranges: Ranges, layers: Sequence[LayerRecord]) -> list[WorstInput]:
    """The inputs of the most sensitive layers, or the noisiest activations where decisions are not known."""
    noisy = ranges.worst(len(ranges.activations))
    known = [layer for layer in layers if layer.sensitivity_db is not None]
    found: list[tuple[ActivationRange, LayerRecord | None]] = []
    for layer in sorted(known, key=lambda each: each.sensitivity_db or 0.0):
        inputs = (each for each in noisy if f"{each.layer}.".startswith(f"{layer.name}."))
        found += [(each, layer) for each in itertools.islice(inputs, 1)]
    return [
        WorstInput(each, None if each.second else ranges.weight_of(each.layer), layer)
        for each, layer in (found or [(each, None) for each in noisy])[:WORST_LAYERS]
    ]
