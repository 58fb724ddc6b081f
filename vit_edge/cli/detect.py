"""`detect`: the objects in images, in words, as JSON or drawn."""

import argparse
import io
import json
from pathlib import Path
from typing import Any

from vit_edge.cli import arguments
from vit_edge.cli.console import check_file, one_line, pairs, refuse_image, write_bytes
from vit_edge.cli.parser import Commands
from vit_edge.cli.values import finite
from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.predict.detection import Detection, drawn
from vit_edge.runtime.predict.detector import THRESHOLD, Detector


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("detect", help="the objects in images: class, score and box of each")
    parser.add_argument("model", metavar="BUNDLE", help="bundle of a detector, or ONNX file")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    parser.add_argument(
        "--draw", type=Path, metavar="FILE.png", help="write the image with its boxes (one IMAGE)"
    )
    parser.add_argument(
        "--threshold",
        type=finite,
        default=THRESHOLD,
        metavar="X",
        help="the least probability of an object that is shown (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image and line")
    arguments.add_formats(parser)
    arguments.add_session(parser)
    arguments.add_trust(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge detect`; a bad image is reported, the rest goes on, and the status is 2."""
    check_file("--draw", args.draw)
    if args.draw is not None and len(args.images) > 1:
        raise UsageError(f"--draw takes one image, got {len(args.images)}; detect them one by one")
    if not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold must lie between 0 and 1, got {args.threshold}")
    detect = Detector(
        args.model, provider=args.provider, threads=args.threads, limits=args.limits, trust=args.trust
    )
    refused = 0
    answers = detect.batch(args.images, threshold=args.threshold)
    for image, answer in zip(args.images, answers, strict=True):
        if isinstance(answer, ImageError):
            refused += 1
            refuse_image(image, answer, args.json)
            continue
        print(json.dumps(_found(image, answer)) if args.json else _words(image, answer))
        if args.draw is not None:
            stream = io.BytesIO()
            drawn(decode(image, args.limits), answer).save(stream, "PNG")
            write_bytes("--draw", args.draw, stream.getvalue())
    return 2 if refused else 0


def _found(image: str, answer: tuple[Detection, ...]) -> dict[str, Any]:
    """What is said of an image."""
    objects = [
        {"label": each.label, "index": each.index, "score": each.score, "box": list(each.box)}
        for each in answer
    ]
    return {"image": image, "objects": objects}


def _words(image: str, answer: tuple[Detection, ...]) -> str:
    rows = [("image", f"{one_line(image)}, {len(answer)} object{'' if len(answer) == 1 else 's'}")]
    for each in answer:
        corners = ", ".join(f"{value:.1f}" for value in each.box)
        rows.append((one_line(each.label), f"{each.score:.1%} at ({corners})"))
    return pairs(rows)
