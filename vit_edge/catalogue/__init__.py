"""Models that were measured: what is known of a checkpoint before anything is built of it.

`models.json` is written by `python -m tools.catalogue`; `find` reads it.
"""

from vit_edge.catalogue.models import Figure, FileFigures, KnownModel, Measured, find, known_models

__all__ = ["Figure", "FileFigures", "KnownModel", "Measured", "find", "known_models"]
