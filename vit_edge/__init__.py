"""vit_edge: takes a trained Vision Transformer to an edge device and proves that nothing was lost.

The names below are the device API. They need numpy, Pillow and onnxruntime only, and load on first use.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Since 1.29, onnxruntime reports usage to its vendor by default; it reads this variable when it is imported.
# Every module of this package is imported after this line. A value that the user has set stands.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from vit_edge.bundle import Bundle, Manifest, read_bundle, verify_bundle
    from vit_edge.errors import (
        BundleError,
        ImageError,
        IntegrityError,
        ModelError,
        ProviderError,
        SignatureError,
        UsageError,
        VitEdgeError,
    )
    from vit_edge.runtime.explain.explainer import Explainer, Explanation
    from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
    from vit_edge.runtime.image.preprocess import Decoding
    from vit_edge.runtime.model.file import ModelFile, read_model
    from vit_edge.runtime.predict.classifier import Classifier, Prediction
    from vit_edge.runtime.predict.columns import BatchClassifier
    from vit_edge.runtime.predict.detection import Detection
    from vit_edge.runtime.predict.detector import Detector
    from vit_edge.runtime.predict.embedder import Embedder, Embedding
    from vit_edge.runtime.predict.segmentation import Segmentation
    from vit_edge.runtime.predict.segmenter import Segmenter
    from vit_edge.runtime.selftest.check import SelfTest
    from vit_edge.runtime.selftest.run import selftest
    from vit_edge.runtime.session.session import Placement, Session, SessionSettings

_HOME = {
    "BatchClassifier": "runtime.predict.columns",
    "Bundle": "bundle",
    "BundleError": "errors",
    "Classifier": "runtime.predict.classifier",
    "DecodeLimits": "runtime.image.limits",
    "Decoding": "runtime.image.preprocess",
    "Detection": "runtime.predict.detection",
    "Detector": "runtime.predict.detector",
    "Embedder": "runtime.predict.embedder",
    "Embedding": "runtime.predict.embedder",
    "Explainer": "runtime.explain.explainer",
    "Explanation": "runtime.explain.explainer",
    "ImageError": "errors",
    "ImageFormat": "runtime.image.limits",
    "IntegrityError": "errors",
    "Manifest": "bundle",
    "ModelError": "errors",
    "ModelFile": "runtime.model.file",
    "Placement": "runtime.session.session",
    "Prediction": "runtime.predict.classifier",
    "ProviderError": "errors",
    "Segmentation": "runtime.predict.segmentation",
    "Segmenter": "runtime.predict.segmenter",
    "SelfTest": "runtime.selftest.check",
    "Session": "runtime.session.session",
    "SessionSettings": "runtime.session.session",
    "SignatureError": "errors",
    "UsageError": "errors",
    "VitEdgeError": "errors",
    "read_bundle": "bundle",
    "read_model": "runtime.model.file",
    "selftest": "runtime.selftest.run",
    "verify_bundle": "bundle",
}

__all__ = [
    "BatchClassifier",
    "Bundle",
    "BundleError",
    "Classifier",
    "DecodeLimits",
    "Decoding",
    "Detection",
    "Detector",
    "Embedder",
    "Embedding",
    "Explainer",
    "Explanation",
    "ImageError",
    "ImageFormat",
    "IntegrityError",
    "Manifest",
    "ModelError",
    "ModelFile",
    "Placement",
    "Prediction",
    "ProviderError",
    "Segmentation",
    "Segmenter",
    "SelfTest",
    "Session",
    "SessionSettings",
    "SignatureError",
    "UsageError",
    "VitEdgeError",
    "read_bundle",
    "read_model",
    "selftest",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vit_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vit_edge.{_HOME[name]}"), name)
