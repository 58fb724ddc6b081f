"""Every error that vit_edge raises on purpose, one tree.

Each concrete class is also the builtin type that a caller would expect, so code that has never heard of
vit_edge still catches the right thing. A message is one sentence that says what, where and the mend.

    VitEdgeError
    ├── UsageError            (ValueError)       an argument or option that cannot be honoured
    ├── SourceError           (ValueError)       a checkpoint, config file or callable that is no readable ViT
    ├── ModelError            (ValueError)       an ONNX file that cannot be loaded, or is not what it must be
    │   ├── ContractError                        a graph that is not the canonical ViT; names the block
    │   └── KernelsError                         a file of operators that this machine does not have
    ├── ParityError           (ArithmeticError)  two forms of one model disagree beyond the tolerance
    ├── StepError             (RuntimeError)     a library failed inside a step; names step and mend
    ├── BundleError           (ValueError)       a bundle with missing, malformed or unexpected parts
    │   ├── IntegrityError                       bytes that do not have the recorded SHA-256
    │   └── SignatureError                       a bundle that is not what the owner of a key has signed
    ├── ImageError            (ValueError)       an image that cannot be decoded within the limits
    ├── DatasetError          (ValueError)       a folder of images or labels that cannot be used
    ├── TargetError           (ValueError)       a target description that is unknown or malformed
    ├── ProviderError         (RuntimeError)     the requested execution provider is not the one that runs
    └── MissingExtraError     (ImportError)      an optional dependency is not installed
"""


class VitEdgeError(Exception):
    """Base of every error that vit_edge raises on purpose."""


class UsageError(VitEdgeError, ValueError):
    """An argument or option that cannot be honoured."""


class SourceError(VitEdgeError, ValueError):
    """A checkpoint, config file or callable that is no Vision Transformer we can read."""


class ModelError(VitEdgeError, ValueError):
    """An ONNX file that cannot be loaded, or is not what it must be."""


class ContractError(ModelError):
    """A graph that is not the canonical ViT; the message names the block and what was found there."""


class KernelsError(ModelError):
    """A file of operators that this machine does not have: of `vit-edge-kernels`."""


class ParityError(VitEdgeError, ArithmeticError):
    """Two forms of one model disagree beyond the tolerance."""


class StepError(VitEdgeError, RuntimeError):
    """A library failed inside a step of ours; the message names the step, what it said, and the mend."""


class BundleError(VitEdgeError, ValueError):
    """A bundle with missing, malformed or unexpected parts."""


class IntegrityError(BundleError):
    """Bytes that do not have the recorded SHA-256."""


class SignatureError(BundleError):
    """A bundle that is not what the owner of a key has signed."""


class ImageError(VitEdgeError, ValueError):
    """An image that cannot be decoded within the limits."""


class DatasetError(VitEdgeError, ValueError):
    """A folder of images or labels that cannot be used."""


class TargetError(VitEdgeError, ValueError):
    """A target description that is unknown or malformed."""


class ProviderError(VitEdgeError, RuntimeError):
    """The requested execution provider is not the one that runs."""


class MissingExtraError(VitEdgeError, ImportError):
    """An optional dependency is not installed; the message holds the pip command."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed; run: pip install 'vit-edge[{extra}]'")
