"""The embedders of a bundle, and what its manifest says about them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from vit_edge.embedding_report import EmbeddingReport
from vit_edge.host.convert.onnx_io import to_bytes
from vit_edge.host.embedder.files import EmbedderAim, FloatEmbedder, int8_embedder
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Quantization
from vit_edge.host.sources import Source
from vit_edge.manifest import EmbedderRecord, Role
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.embeddings import compare_embedders
from vit_edge.runtime.evaluate.looks import earlier_looks, remember
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import EmbeddingTolerance, TargetSpec, Verdict

FLOAT_EMBEDDER = "onnx/embedder.onnx"
QUANTIZED_EMBEDDER = "onnx/embedder_quantized.onnx"


@dataclasses.dataclass(frozen=True, eq=False)
class BundledEmbedders:
    """What a bundle holds beside its classifiers; nothing where no embedder is wanted."""

    files: dict[str, tuple[bytes, Role]] = dataclasses.field(default_factory=dict)
    record: EmbedderRecord | None = None


@dataclasses.dataclass(frozen=True)
class EmbedderGate:
    """How the INT8 embedder of a build is judged."""

    images: ImageSet
    tolerance: EmbeddingTolerance
    session: SessionSettings
    folder: Path
    """For the files, while they are judged."""
    used: tuple[str, ...] = ()
    """The outputs that the INT8 embedder's forms are chosen for; empty: all."""
    keep_failing: bool = False
    """An INT8 embedder that fails is in the bundle all the same."""
    progress: Progress | None = None


def bundled_embedders(
    plain: FloatEmbedder | None,
    search: Search,
    quantization: Quantization | None,
    source: Source,
    portable: TargetSpec,
    gate: EmbedderGate,
) -> BundledEmbedders:
    """The float embedder, the portable INT8 one, and the verdict on the second.

    An INT8 embedder that demonstrably gives other embeddings than are tolerated is left out, so that the
    bundle embeds in float.

    Args:
        plain: the float embedder; None where none is wanted.
        search: what is known about the classifier.
        quantization: of the INT8 classifier in the bundle; where it holds none, it holds no INT8 embedder.
        source: what all come from.
        portable: the target that the INT8 embedder is for.
        gate: the images, and what is accepted.
    """
    if plain is None:
        return BundledEmbedders()
    files = {FLOAT_EMBEDDER: (to_bytes(plain.model, FLOAT_EMBEDDER), Role.EMBEDDER_FLOAT)}
    if quantization is None:
        return BundledEmbedders(files, EmbedderRecord(images=0, outputs={}, layers=()))
    aim = EmbedderAim(quantization, gate.used)
    model, taken = int8_embedder(plain.features, search, aim, source, portable)
    files[QUANTIZED_EMBEDDER] = to_bytes(model, QUANTIZED_EMBEDDER), Role.EMBEDDER
    report = _judged({name: data for name, (data, _) in files.items()}, gate)
    left_out = ""
    if report.verdict is Verdict.FAIL and not gate.keep_failing:
        del files[QUANTIZED_EMBEDDER]
        failed = [each for each in report.criteria if each.verdict is Verdict.FAIL]
        left_out = f"it fails by {', '.join(f'{each.criterion.value} of {each.output}' for each in failed)}"
    record = EmbedderRecord(
        images=report.n,
        outputs=report.outputs,
        layers=tuple(layer.record for layer in taken.layers),
        report=report,
        left_out=left_out,
    )
    return BundledEmbedders(files, record)


def _judged(files: Mapping[str, bytes], gate: EmbedderGate) -> EmbeddingReport:
    """The verdict of the runtime on both files; the look is remembered, as that of the classifiers is."""
    models = []
    for name, data in files.items():
        path = gate.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        models.append(read_model(path))
    targets = gate.images.targets
    classes = (
        gate.images
        if targets is None or targets.ndim == 1
        else dataclasses.replace(gate.images, targets=None)
    )
    earlier = earlier_looks((models[0].sha256, models[1].sha256))
    found = compare_embedders(
        models[0],
        models[1],
        classes,
        gate.tolerance,
        CompareSettings(gate.session, earlier=earlier),
        None if gate.progress is None else step_of(gate.progress, "check the embedder"),
    )
    remember(found.pair, found.history)
    return found.report
