"""`package`: a bundle as an app wants it."""

import argparse
import sys
from pathlib import Path

from vit_edge.cli import values
from vit_edge.cli.parser import Commands
from vit_edge.package.homes import Home, package


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("package", help="what an app needs to run a bundle without Python")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "--for",
        dest="home",
        type=Home,
        choices=list(Home),
        required=True,
        metavar="{" + ",".join(home.value for home in Home) + "}",
        help="where it will run",
    )
    parser.add_argument(
        "-o",
        "--out",
        dest="folder",
        type=values.folder,
        required=True,
        metavar="DIR",
        help="folder to make",
    )
    parser.add_argument(
        "--modules",
        type=Path,
        metavar="DIR",
        help="for web: a node_modules folder that holds onnxruntime-web (default: node_modules here)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge package`."""
    written = package(args.bundle, args.home, args.folder, args.modules)
    print(
        f"{written.folder}: {written.files} files, {written.size / 1e6:.1f} MB; {written.next_step}",
        file=sys.stderr,
    )
    return 0
