"""The settings that travel between layers: small frozen dataclasses and enums, nothing else.

A spec is materialised once from raw input (JSON, TOML, command line) by a strict reader that refuses unknown
keys and wrong types, and from then on it is only read. Import the names from here.
"""

from vit_edge.spec.form import (
    AS_WRITTEN,
    IR_VERSIONS,
    MAX_BATCH,
    OPSETS,
    PORTABLE,
    WRITTEN,
    ActivationType,
    Batch,
    FloatType,
    GraphStyle,
    InputForm,
    ModelForm,
    OnnxVersions,
    VersionsWanted,
    check_batch,
)
from vit_edge.spec.gate import LEAST_COSINE, EmbeddingTolerance, MapLimits, Tolerance, Verdict
from vit_edge.spec.outputs import CLS_EMBEDDING, LOGITS, PATCH_FEATURES, POOLED_EMBEDDING, OutputKind
from vit_edge.spec.preprocess import CropRule, Interpolation, PreprocessSpec, ResizeMode
from vit_edge.spec.target import (
    SESSION_OPTIONS,
    Arithmetic,
    Packaging,
    ProviderRuns,
    ProviderSpec,
    QuantizedOperators,
    Requirements,
    TargetSpec,
    Verification,
    VerificationState,
    session_options,
)

__all__ = [
    "AS_WRITTEN",
    "CLS_EMBEDDING",
    "IR_VERSIONS",
    "LEAST_COSINE",
    "LOGITS",
    "MAX_BATCH",
    "OPSETS",
    "PATCH_FEATURES",
    "POOLED_EMBEDDING",
    "PORTABLE",
    "SESSION_OPTIONS",
    "WRITTEN",
    "ActivationType",
    "Arithmetic",
    "Batch",
    "CropRule",
    "EmbeddingTolerance",
    "FloatType",
    "GraphStyle",
    "InputForm",
    "Interpolation",
    "MapLimits",
    "ModelForm",
    "OnnxVersions",
    "OutputKind",
    "Packaging",
    "PreprocessSpec",
    "ProviderRuns",
    "ProviderSpec",
    "QuantizedOperators",
    "Requirements",
    "ResizeMode",
    "TargetSpec",
    "Tolerance",
    "Verdict",
    "Verification",
    "VerificationState",
    "VersionsWanted",
    "check_batch",
    "session_options",
]
