"""The layout of a home photo server, as `package` and `build` write it."""

import argparse
import sys
from pathlib import Path
from typing import Any

from vit_edge.errors import UsageError
from vit_edge.package.homes import Written

_LAYOUTS = ("immich",)


def add_layout(parser: Any, told: str) -> None:
    """Declare `--layout` on a parser or a group of exclusive options."""
    parser.add_argument("--layout", choices=_LAYOUTS, help=told)


def add_textual(parser: Any) -> None:
    """Declare `--textual`."""
    parser.add_argument(
        "--textual",
        type=Path,
        metavar="DIR",
        help="with --layout: the server's own export of the same model, whose text tower is copied",
    )


def check_textual(args: argparse.Namespace) -> None:
    """Refuse `--textual` without `--layout`."""
    if args.textual is not None and args.layout is None:
        raise UsageError("--textual goes with --layout immich: leave it out")


def beside(args: argparse.Namespace) -> Path:
    """Where `build` writes the layout: beside its bundle, with the layout's name behind a dash."""
    out: Path = args.out
    return out.with_name(f"{out.name}-{args.layout}")


def check_layout(args: argparse.Namespace, source: Any) -> None:
    """Refuse what cannot be laid out before a build works for minutes.

    Args:
        args: of `build`.
        source: that it builds of.

    Raises:
        UsageError: a place that is taken, or a text tower that does not fit.
        BundleError: another kind of model, or a preprocessing that the server cannot do.
    """
    if args.layout is None:
        return
    from vit_edge.host.convert.immich import check_immich

    check_immich(source, beside(args), args.textual)


def write_layout(bundle: Path, folder: Path, textual: Path | None) -> None:
    """Write the layout of a bundle, and say where."""
    from vit_edge.host.convert.immich import write_immich

    tell_written(write_immich(bundle, folder, textual))


def tell_written(written: Written) -> None:
    """What was written, and what to do with it."""
    print(
        f"{written.folder}: {written.files} files, {written.size / 1e6:.1f} MB; {written.next_step}",
        file=sys.stderr,
    )
