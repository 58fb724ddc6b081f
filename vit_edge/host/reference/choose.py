"""Which reference can answer for a source."""

from vit_edge.errors import SourceError
from vit_edge.host.reference.timm_pipeline import TimmPipeline
from vit_edge.host.reference.transformers_pipeline import TransformersPipeline
from vit_edge.host.reference.types import Reference
from vit_edge.host.sources.types import Library, Source
from vit_edge.spec import OutputKind


def own_reference(source: Source) -> Reference:
    """The source's own pipeline.

    Raises:
        SourceError: it has none, or its library is not installed or cannot load it; the message is a clause
            that says why.
    """
    own = source.own_pipeline
    if own is None:
        raise SourceError(f"{source.name} has no pipeline of its own that could be run")
    if own.changed:
        raise SourceError(
            "options replace part of what the source says of itself, so its own pipeline is another one"
        )
    if own.library is Library.TRANSFORMERS:
        return TransformersPipeline(own.path, own.names_classes)
    if source.output is not OutputKind.SINGLE_LABEL:  # which timm's weights do not state
        raise SourceError(f"timm has no pipeline for {source.output.value}")
    return TimmPipeline(own.arch, own.path, len(source.labels))
