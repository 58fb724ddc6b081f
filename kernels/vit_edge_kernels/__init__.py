"""The shared library of vit-edge's own kernels, and whether this CPU runs them.

`vit_edge` finds this package where it is installed, and loads files with operators of the domain
"vit_edge.kernels" only then.
"""

import ctypes
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["get_library_path", "instructions"]


def get_library_path() -> str:
    """The library, for `onnxruntime.SessionOptions.register_custom_ops_library`."""
    return str(Path(__file__).with_name("libvit_edge_kernels.so"))


def instructions() -> str | None:
    """What the kernels use on this CPU: "avx512-vnni", "avx-vnni" or "avx2"; None where they do not run.

    The environment variable VIT_EDGE_KERNELS asks for one of them, for tests.
    """
    found = ctypes.CDLL(get_library_path()).vit_edge_kernels_instructions
    found.restype = ctypes.c_char_p
    name: bytes | None = found()
    return None if name is None else name.decode()
