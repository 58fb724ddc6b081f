"""Which gate judges a model: by what its numbers mean."""

from vit_edge.host.bundling.embedding_gate import EmbeddingGate
from vit_edge.host.bundling.map_gate import MapGate
from vit_edge.host.bundling.proof import Gate
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.progress import Progress
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import OutputKind


def gate_for(reference: ModelFile, settings: BuildSettings, images: ImageSet, progress: Progress) -> Gate:
    """Judges by what the model's numbers mean."""
    if reference.output.task is OutputKind.EMBEDDING:
        return EmbeddingGate(reference, images, settings.threads, progress, settings.embedding_tolerance)
    kind = MapGate if reference.maps else Gate
    return kind(reference, images, settings.threads, progress)
