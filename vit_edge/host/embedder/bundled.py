"""The embedders of a bundle, and what its manifest says about them."""

import dataclasses

from vit_edge.host.convert.onnx_io import to_bytes
from vit_edge.host.convert.optimize import natural_pixels
from vit_edge.host.embedder.files import FloatEmbedder, embedding_fidelity, int8_embedder
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Quantization
from vit_edge.host.sources import Source
from vit_edge.manifest import EmbedderRecord, Role
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.spec import TargetSpec

FLOAT_EMBEDDER = "onnx/embedder.onnx"
QUANTIZED_EMBEDDER = "onnx/embedder_quantized.onnx"
FIDELITY_IMAGES = 64  # each has hundreds of patches, so more would change little


@dataclasses.dataclass(frozen=True, eq=False)
class BundledEmbedders:
    """What a bundle holds beside its classifiers; nothing where no embedder is wanted."""

    files: dict[str, tuple[bytes, Role]] = dataclasses.field(default_factory=dict)
    record: EmbedderRecord | None = None


def bundled_embedders(
    plain: FloatEmbedder | None,
    search: Search,
    quantization: Quantization | None,
    source: Source,
    portable: TargetSpec,
    check: ImageSet,
) -> BundledEmbedders:
    """The float embedder, the portable INT8 one, and how close the second is to the first.

    Args:
        plain: the float embedder; None where none is wanted.
        search: what is known about the classifier.
        quantization: of the INT8 classifier in the bundle; where it holds none, it holds no INT8 embedder.
        source: what all come from.
        portable: the target that the INT8 embedder is for.
        check: images on some of which the two are compared.
    """
    if plain is None:
        return BundledEmbedders()
    files = {FLOAT_EMBEDDER: (to_bytes(plain.model, FLOAT_EMBEDDER), Role.EMBEDDER_FLOAT)}
    record = EmbedderRecord(images=0, outputs={}, layers=())
    if quantization is not None:
        model, taken = int8_embedder(plain.features, search, quantization, source, portable)
        chosen = check.limited(FIDELITY_IMAGES)
        pixels = natural_pixels(chosen.paths, source.preprocess, chosen.limits, len(chosen))
        close = embedding_fidelity(plain.model, model, list(pixels))
        files[QUANTIZED_EMBEDDER] = to_bytes(model, QUANTIZED_EMBEDDER), Role.EMBEDDER
        record = EmbedderRecord(
            images=len(chosen), outputs=close, layers=tuple(layer.record for layer in taken.layers)
        )
    return BundledEmbedders(files, record)
