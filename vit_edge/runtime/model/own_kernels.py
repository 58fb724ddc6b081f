"""Whether this machine runs files with the operators of `vit-edge-kernels`.

The package is optional, and holds machine code: no file brings it along, and none is loaded that needs it
where it is not installed.
"""

import importlib
import importlib.util
from collections.abc import Iterable

from vit_edge.spec import KERNELS_DOMAIN, KERNELS_PACKAGE

_MODULE = "vit_edge_kernels"
_INSTEAD = "or take the portable file beside it"


class NotHere(ValueError):  # noqa: N818  a clause about a file, of which the reader makes an error
    """Operators that this machine does not run."""


def need_kernels(operators: Iterable[tuple[str, str]]) -> bool:
    """Whether some of these operators, (domain, name), are of the package."""
    return any(domain == KERNELS_DOMAIN for domain, _ in operators)


def check_kernels() -> str:
    """What the kernels use on this CPU, as "avx2"; a file of such operators is refused where it has none.

    Raises:
        NotHere: with a clause about the file.
    """
    if importlib.util.find_spec(_MODULE) is None:
        raise NotHere(
            f"needs the operators of {KERNELS_PACKAGE}, which is not installed; "
            f"run: pip install {KERNELS_PACKAGE}, {_INSTEAD}"
        )
    try:
        instructions: str | None = importlib.import_module(_MODULE).instructions()
    except (OSError, AttributeError, ImportError) as error:
        raise NotHere(
            f"needs the operators of {KERNELS_PACKAGE}, whose library does not load ({error}); "
            f"install it again, {_INSTEAD}"
        ) from error
    if instructions is None:
        raise NotHere(
            f"needs the operators of {KERNELS_PACKAGE}, which use instructions that this CPU lacks (AVX2); "
            "take the portable file beside it"
        )
    return instructions


def kernels_library() -> str:
    """Path of the library, for onnxruntime; `check_kernels` has found it."""
    return str(importlib.import_module(_MODULE).get_library_path())


def kernel_instructions() -> str | None:
    """What the kernels use on this CPU; None where the package is absent or does not run."""
    try:
        return check_kernels()
    except NotHere:
        return None


def told() -> str:
    """How such a file fares on this machine."""
    try:
        instructions = check_kernels()
    except NotHere as error:
        return f"not run here: it {error}"
    return f"{KERNELS_PACKAGE} {importlib.import_module(_MODULE).__version__}, here with {instructions}"
