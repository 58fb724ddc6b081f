"""The entry point: which command, and what an error becomes."""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from vit_edge import __version__
from vit_edge.cli.checks import check_inputs
from vit_edge.cli.console import file_for, one_line, text_aside
from vit_edge.cli.parser import EXIT_STATUS, CommandParser, Parser
from vit_edge.errors import MissingExtraError, SourceError, UsageError, VitEdgeError
from vit_edge.runtime.steps import origin_of, said

USAGE_ERROR = 2
SIGNALLED = 128  # and the signal's number, as shells have it
INTERRUPTED = SIGNALLED + signal.SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE

_STOPPING = ("SIGTERM", "SIGHUP")  # end a command as Ctrl-C does: what it had begun is removed
_OUTPUTS = ("json", "junit", "report", "out", "draw")  # arguments that may name a file to write

COMMANDS: dict[
    str, tuple[str, ...]
] = {  # module here: the commands that its `add` declares, as --help lists them
    "build": ("build",),
    "convert": ("export", "optimize", "quantize"),
    "measure": ("compare", "bench"),
    "parity": ("parity",),
    "doctor": ("doctor",),
    "classify": ("classify",),
    "embed": ("embed",),
    "segment": ("segment",),
    "detect": ("detect",),
    "explain": ("explain",),
    "jobs": ("merge",),
    "inspect": ("inspect",),
    "package": ("package", "web"),
    "bundle": ("bundle",),
    "selftest": ("selftest",),
    "fleet": ("fleet",),
    "sign": ("sign", "verify"),
    "targets": ("targets",),
}

HOST_PACKAGES = frozenset({"torch", "onnx", "onnx_ir", "onnxscript", "safetensors"})

_DESCRIPTION = "Takes a trained Vision Transformer to an edge device and proves that nothing was lost."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        0 done or PASS, 1 FAIL, 2 usage or bad input, 3 UNDECIDED.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not break a terminal without Unicode
    try:
        with _stopped_by_signals():
            args = parser(words[0] if words else None).parse_args(words)
            status = _run(args)
            sys.stdout.flush()
    except SystemExit as finished:  # --help has been printed
        return int(finished.code or 0)
    except _Stopped as stopped:
        return _complain(f"stopped by {stopped.signal.name}", SIGNALLED + stopped.signal)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has seen enough
        _discard(sys.stdout)
        return BROKEN_PIPE
    except Exception as error:
        if "--debug" in words:
            raise
        return _complain(f"error: {_sentence(error)}", USAGE_ERROR)
    return status


class _Stopped(KeyboardInterrupt):
    """A signal that asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Signals that would end the process at once let it clean up; those that are ignored stay so."""
    found: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
        found = {number: signal.getsignal(number) for number in numbers}
    mine = [number for number, handler in found.items() if handler is signal.SIG_DFL]

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in mine:  # a second one must not interrupt the cleaning
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _run(args: argparse.Namespace) -> int:
    """The command, its files and its text each where they belong."""
    outputs = [value for name in _OUTPUTS if isinstance(value := getattr(args, name, None), Path)]
    with text_aside(outputs), contextlib.ExitStack() as stack:
        check_inputs(args, args.command.option_of)
        if isinstance(getattr(args, "out", None), Path):
            args.out = stack.enter_context(file_for(args.out))
        try:
            status: int = args.run(args)
        except (UsageError, SourceError) as error:
            raise type(error)(args.command.dashed(str(error))) from error
    return status


def _fill_closed_streams() -> None:
    """Whoever closed a stream wants to see nothing, and no file may get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _discard(stream: io.TextIOBase | object) -> None:
    """Let what a stream still holds go nowhere, or the interpreter would complain at its end."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def parser(command: str | None = None) -> Parser:
    """The command line: of one command where its name is known, else the whole.

    Modules of other commands are not imported then, so that a short command starts as fast as it can.
    """
    whole = Parser(prog="vit-edge", description=_DESCRIPTION, epilog=EXIT_STATUS)
    whole.add_argument("--version", action="version", version=f"vit-edge {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    home = next((module for module, names in COMMANDS.items() if command in names), None)
    for module in COMMANDS if home is None else (home,):
        importlib.import_module(f"vit_edge.cli.{module}").add(commands)
    return whole


def _sentence(error: Exception) -> str:
    if isinstance(error, VitEdgeError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in HOST_PACKAGES:
        return str(MissingExtraError((error.name or "").split(".")[0], "host"))
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, argparse.ArgumentError):
        return str(error)
    origin = origin_of(error)
    if origin is not None:
        return f"failed {origin} ({said(error)}); report it with the model, --debug shows where"
    return f"internal error, please report it ({type(error).__name__}: {error}); --debug shows where"


def _complain(text: str, status: int) -> int:
    try:
        print(f"vit-edge: {one_line(text)}", file=sys.stderr, flush=True)
    except OSError:  # nobody listens
        _discard(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, which is what the complaint is about
        _discard(sys.stdout)
    return status
