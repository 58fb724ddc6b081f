"""`package` and `web`: a bundle as an app wants it, and a site of it at once."""

import argparse
import threading
from pathlib import Path

from vit_edge.cli import values
from vit_edge.cli.layout_option import (
    add_layout,
    add_textual,
    check_textual,
    tell_written,
    write_layout,
)
from vit_edge.cli.parser import Commands, Parser
from vit_edge.errors import UsageError
from vit_edge.package.homes import Home, package, site_files
from vit_edge.package.serve import served

_PORT = 8000
_PORTS = range(2**16)


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("package", help="what an app needs to run a bundle without Python")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--for",
        dest="home",
        type=values.one_of(Home),
        metavar=values.names_of(Home),
        help="where it will run",
    )
    add_layout(kind, "of an image tower of CLIP or SigLIP: the folder that a home photo server reads")
    add_textual(parser)
    parser.add_argument(
        "-o",
        "--out",
        dest="folder",
        type=values.folder,
        required=True,
        metavar="DIR",
        help="folder to make",
    )
    _add_modules(parser, "for web: ")
    parser.set_defaults(run=run)
    web = commands.add_parser("web", help="try a bundle in a browser on this machine")
    web.add_argument("bundle", metavar="BUNDLE", type=Path)
    web.add_argument(
        "--serve", action="store_true", required=True, help="serve the site to this machine until Ctrl-C"
    )
    web.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help=f"0: any that is free (default: {_PORT})"
    )
    _add_modules(web)
    web.set_defaults(run=run_web)


def _add_modules(parser: Parser, home: str = "") -> None:
    parser.add_argument(
        "--modules",
        type=Path,
        metavar="DIR",
        help=f"{home}a node_modules folder that holds onnxruntime-web (default: node_modules here)",
    )


def run(args: argparse.Namespace) -> int:
    """`vit-edge package`."""
    check_textual(args)
    if args.layout is None:
        tell_written(package(args.bundle, args.home, args.folder, args.modules))
    else:
        write_layout(args.bundle, args.folder, args.textual)
    return 0


def run_web(args: argparse.Namespace) -> int:
    """`vit-edge web --serve`; 0 once Ctrl-C ends it."""
    if args.port not in _PORTS:
        raise UsageError(f"--port must be 0 to {_PORTS[-1]}, not {args.port}")
    with served(site_files(args.bundle, args.modules), args.port) as address:
        print(f"{address} (to this machine alone; Ctrl-C ends it)", flush=True)
        try:
            until_stopped()
        except KeyboardInterrupt as stop:
            if type(stop) is not KeyboardInterrupt:  # SIGTERM ends it as it ends every command
                raise
    return 0


def until_stopped() -> None:
    """Wait for a signal."""
    threading.Event().wait()
