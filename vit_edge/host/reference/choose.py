"""Which reference can answer for a source."""

from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.reference.embedding_pipeline import EmbeddingPipeline
from vit_edge.host.reference.numbers_pipeline import NumbersPipeline
from vit_edge.host.reference.onnx_pipeline import OnnxPipeline
from vit_edge.host.reference.open_clip_pipeline import OpenClipPipeline
from vit_edge.host.reference.timm_pipeline import TimmPipeline
from vit_edge.host.reference.torchvision_pipeline import TorchvisionPipeline
from vit_edge.host.reference.transformers_pipeline import TransformersPipeline
from vit_edge.host.reference.types import Reference
from vit_edge.host.reference.zero_shot_pipeline import ZeroShotPipeline
from vit_edge.host.sources.preprocessing import to_processor
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind
from vit_edge.spec import CropRule, PreprocessSpec, ResizeMode

_RESIZES_NUMBERS = "DINOv3ViTModel"
_ALONE = {
    SourceKind.ONNX: "an ONNX file says nothing of how its images are made",
    SourceKind.CALLABLE: "your own code gives a model, but not how its images are made",
    SourceKind.CHECKPOINT: "weights that no library reads by itself have no pipeline",
    SourceKind.HUGGINGFACE: "it has no pipeline of its own",
}


def own_reference(source: Source) -> Reference:
    """The source's own pipeline; what options state in place of its word is stated to it, too.

    Raises:
        SourceError: it has none, or its library is not installed, cannot load it or do what is stated; the
            message says why, and what to do.
    """
    own = source.own_pipeline
    if own is None:
        raise SourceError(f"{_ALONE[source.kind]}: name what answers for it with --reference")
    spec = source.preprocess
    if own.library is Library.TIMM:
        return TimmPipeline(own, spec, source.numbers, source.output)
    if own.library is Library.TORCHVISION:
        return TorchvisionPipeline(own, spec, source.numbers, source.output)
    if own.library is Library.OPEN_CLIP:
        return OpenClipPipeline(own, spec, source.output)
    processor = _processor(own, spec)
    if own.library is Library.ONNXRUNTIME:
        return OnnxPipeline(own.path, source, processor)
    if own.tower is not None:
        if processor is None and own.tower == _RESIZES_NUMBERS:
            return NumbersPipeline(own.path, own.tower, spec)
        return EmbeddingPipeline(own.path, own.tower, processor, (spec.height, spec.width))
    if own.prompts is not None:
        return ZeroShotPipeline(own.path, own.prompts, processor, (spec.height, spec.width))
    kind = source.output if own.states_kind else None
    return TransformersPipeline(
        own.base or own.path,
        own.names_classes,
        processor=processor,
        kind=kind,
        adapter=None if own.base is None else own.path,
        size=(spec.height, spec.width),
    )


def _processor(own: OwnPipeline, spec: PreprocessSpec) -> dict[str, Any] | None:
    """The config of transformers' own processor for a stated recipe; None where the source's is in force."""
    if not own.stated.says_something and not own.no_recipe:
        return None
    if spec.resize_mode is ResizeMode.COVER:
        raise SourceError(
            "transformers has no resize that covers a size which is not square: name what answers for it "
            "with --reference"
        )
    whole = spec.resize_mode is ResizeMode.EXACT and spec.resize == (spec.height, spec.width)
    if spec.crop is not CropRule.TRANSFORMERS and not whole:
        raise SourceError(
            f"the crop is to round as {spec.crop.value} does, which transformers' processor cannot: state "
            f"--crop-rule {CropRule.TRANSFORMERS.value}, or name what answers for it with --reference"
        )
    return to_processor(spec)
