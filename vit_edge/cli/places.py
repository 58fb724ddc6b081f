"""What the commands share whose answers lie on images: `detect` and `segment`."""

import argparse
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from vit_edge.cli import arguments, jobs
from vit_edge.cli.console import check_file, write_bytes
from vit_edge.cli.parser import Parser
from vit_edge.cli.values import finite
from vit_edge.errors import UsageError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.job.merge import form_of
from vit_edge.runtime.job.parquet import lines_of


def add_places(parser: Parser, model: str, drawn: str, threshold: tuple[float, str]) -> None:
    """The arguments of such a command.

    Args:
        parser: of it.
        model: what it takes.
        drawn: what lies over the image in a drawing.
        threshold: the default, and what it is of.
    """
    parser.add_argument("model", metavar="BUNDLE", help=f"bundle of {model}, or ONNX file")
    jobs.add_images(parser)
    parser.add_argument(
        "--draw", type=Path, metavar="FILE.png", help=f"write the image with its {drawn} (one IMAGE)"
    )
    parser.add_argument(
        "--threshold",
        type=finite,
        default=threshold[0],
        metavar="X",
        help=f"{threshold[1]} (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image and line")
    jobs.add_job(parser)
    arguments.add_formats(parser)
    arguments.add_session(parser)
    arguments.add_trust(parser)


def check_job(args: argparse.Namespace) -> None:
    """Refuse what prints or draws beside a file of results.

    Raises:
        UsageError: names the option.
    """
    form_of(lines_of(args.out))
    for option in ("json", "draw"):
        if getattr(args, option):
            raise UsageError(f"--{option} and rows in {args.out} are two ways to answer; give one of them")


def check_one_image(images: Sequence[str], files: Mapping[str, Path | None]) -> None:
    """Refuse files that cannot be written, and any of them for more than one image.

    Args:
        images: all that are given.
        files: by their options.

    Raises:
        UsageError: as it says.
    """
    for option, path in files.items():
        check_file(option, path)
        if path is not None and len(images) > 1:
            raise UsageError(f"{option} takes one image, got {len(images)}; give them one by one")


def draw(args: argparse.Namespace, image: str, drawn: Callable[[Image.Image], Image.Image]) -> None:
    """Write the drawing of an image, where one is asked for.

    Raises:
        ImageError: the image cannot be decoded.
        UsageError: the file cannot be written.
    """
    if args.draw is not None:
        stream = io.BytesIO()
        drawn(decode(image, args.limits)).save(stream, "PNG")
        write_bytes("--draw", args.draw, stream.getvalue())
