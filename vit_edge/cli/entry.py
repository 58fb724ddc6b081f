"""The entry point: which command, and what an error becomes."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from vit_edge import __version__
from vit_edge.cli import build, classify, convert, embed, inspect, measure, selftest, targets
from vit_edge.cli.arguments import EXIT_STATUS, CommandParser, Parser
from vit_edge.cli.console import one_line
from vit_edge.errors import MissingExtraError, VitEdgeError
from vit_edge.runtime.steps import origin_of, said

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE

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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not break a terminal without Unicode
    try:
        args = parser().parse_args(words)
        status: int = args.run(args)
        sys.stdout.flush()
    except SystemExit as finished:  # --help has been printed
        return int(finished.code or 0)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if "--debug" in words:
            raise
        return _complain(f"error: {_sentence(error)}", USAGE_ERROR)
    return status


def parser() -> Parser:
    """The whole command line."""
    whole = Parser(prog="vit-edge", description=_DESCRIPTION, epilog=EXIT_STATUS)
    whole.add_argument("--version", action="version", version=f"vit-edge {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    build.add(commands)
    convert.add(commands)
    measure.add(commands)
    classify.add(commands)
    embed.add(commands)
    inspect.add(commands)
    selftest.add(commands)
    targets.add(commands)
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
    print(f"vit-edge: {one_line(text)}", file=sys.stderr)
    return status
