"""What a library raises inside a step becomes a sentence that names the step, the place and the mend.

onnxruntime, torch and onnx raise whatever their C++ sides throw, often a bare RuntimeError. The place, such
as the name of a layer's node, is in what they say.
"""

import contextlib
from collections.abc import Iterator
from types import TracebackType

from vit_edge.errors import StepError, VitEdgeError
from vit_edge.progress import Progress
from vit_edge.runtime.session.providers import cause

_LIBRARIES = frozenset({"onnxruntime", "torch", "onnx", "onnx_ir", "onnxscript", "safetensors"})
_MOST_SAID = 300  # characters of what a library says


class Doing:
    """Progress that remembers which step it was last told of.

    Args:
        first: the step before anything is told.
        progress: who is told as well.
    """

    def __init__(self, first: str, progress: Progress | None = None) -> None:
        self.step, self._progress = first, progress

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total` parts of the step `what` are finished."""
        self.step = what
        if self._progress is not None:
            self._progress(what, done, total)


@contextlib.contextmanager
def explained(subject: str, doing: Doing | str, mend: str) -> Iterator[None]:
    """Turn what a library raises within into a StepError; errors of ours and bugs pass as they are.

    Args:
        subject: the model, as the user knows it.
        doing: the step.
        mend: what to do about it.

    Raises:
        StepError: a library failed, or memory ran out.
    """
    try:
        yield
    except VitEdgeError:
        raise
    except Exception as error:
        origin = origin_of(error)
        if origin is None:
            raise
        step = doing if isinstance(doing, str) else doing.step
        raise StepError(f"{subject}: the step {step!r} failed {origin} ({said(error)}); {mend}") from error


def origin_of(error: BaseException) -> str | None:
    """Where an error comes from ("in torch", "for want of memory"); None where it is our own."""
    if isinstance(error, MemoryError):
        return "for want of memory"
    if isinstance(error, RecursionError | NotImplementedError):
        return None
    own = type(error).__module__.partition(".")[0]
    innermost = _innermost(error.__traceback__)
    for name in (own, innermost):
        if name in _LIBRARIES:
            return f"in {name}"
    if type(error) is RuntimeError and innermost == "vit_edge":  # we raise none, so it comes from a C++ side
        return "in onnxruntime" if "onnxruntime" in str(error).lower() else "in torch"
    return None


def said(error: BaseException) -> str:
    """The first line of what an error says, without codes."""
    return cause(error)[:_MOST_SAID] or type(error).__name__


def _innermost(traceback: TracebackType | None) -> str:
    """The package whose Python code was running when the error was raised."""
    name = ""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return name.partition(".")[0]
