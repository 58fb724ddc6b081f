"""The manifest of a bundle: a typed record for each of its sections.

A record's fields are the keys of the file. A key is added with a default, so that older files stay readable,
and with a sentence below it; docs/bundle-format.md names every key.
"""

from vit_edge.manifest.accuracy import AccuracyRecord, CheckData, Parity
from vit_edge.manifest.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SIGNATURE,
    Manifest,
    compiler_name,
    lowered_name,
    output_kind,
)
from vit_edge.manifest.recipe import (
    EmbedderRecord,
    FileOutcome,
    FileRecipe,
    Fold,
    IntegerGraph,
    MergingRecord,
    Method,
    Narrowed,
    OutlierChannels,
    Recipe,
    Repair,
    RepairRecord,
    Seen,
)
from vit_edge.manifest.records import (
    EMBEDDER_ROLES,
    MODEL_ROLES,
    FileEntry,
    LatencyRecord,
    LayerRecord,
    Machine,
    OperatorTime,
    Role,
    SourceRecord,
)

__all__ = [
    "EMBEDDER_ROLES",
    "FORMAT_VERSION",
    "MANIFEST",
    "MODEL_ROLES",
    "SIGNATURE",
    "AccuracyRecord",
    "CheckData",
    "EmbedderRecord",
    "FileEntry",
    "FileOutcome",
    "FileRecipe",
    "Fold",
    "IntegerGraph",
    "LatencyRecord",
    "LayerRecord",
    "Machine",
    "Manifest",
    "MergingRecord",
    "Method",
    "Narrowed",
    "OperatorTime",
    "OutlierChannels",
    "Parity",
    "Recipe",
    "Repair",
    "RepairRecord",
    "Role",
    "Seen",
    "SourceRecord",
    "compiler_name",
    "lowered_name",
    "output_kind",
]
