"""`segment`: the maps of images, in words, as JSON or drawn."""

import argparse
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from vit_edge.cli import jobs, places
from vit_edge.cli.console import one_line, pairs, tell_each, tell_instead, write_bytes
from vit_edge.cli.parser import Commands
from vit_edge.runtime.job.answers import Looking
from vit_edge.runtime.job.masks import mask_folder
from vit_edge.runtime.predict.segmentation import UNSEEN, Segmentation

ARRAYS = ".npz"
_SHOWN = 8  # classes


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("segment", help="the maps of images: classes of pixels, saliency, depth")
    above = "of a single channel, above which a pixel counts"
    places.add_places(parser, "a model of maps", "its map laid over it", (0.5, above))
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="FILE.npz: the maps and the mask as arrays (one IMAGE); .jsonl, .csv or .parquet: a job with a "
        "row per image, masks as PNG in FILE.masks; the same command goes on where an earlier run ended",
    )
    parser.add_argument("--output", metavar="NAME", help="of a file with several maps, the one to show")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge segment`; a bad image is reported, the rest goes on, and the status is 2."""
    opening = jobs.looking_of(args, Looking(args.threshold, mask_folder(args.out or Path("x"))))
    if args.out is not None and args.out.suffix != ARRAYS:
        places.check_job(args)
        return jobs.work(args, opening)
    images = jobs.images_of(args)
    places.check_one_image(images, {"--draw": args.draw, "--out": args.out})
    segment = opening.segmenter()
    tell_instead(segment.instead_of)

    def tell(image: str, answer: Segmentation) -> None:
        found = _found(image, answer, args.threshold)
        print(json.dumps(found) if args.json else _words(found))
        places.draw(args, image, answer.drawn)
        _write(args, answer)

    return tell_each(images, segment.batch(images), args.json, tell)


def _found(image: str, answer: Segmentation, threshold: float) -> dict[str, Any]:
    """What is said of an image."""
    mask = answer.mask(threshold)
    shares = answer.shares(mask)
    first = answer.map
    made = {
        "image": image,
        "size": list(answer.size),
        "map": next(iter(answer.maps)),
        "shape": list(first.shape),
        "seen": float((mask != UNSEEN).mean()),
    }
    if answer.channels == 1:
        row, column = np.unravel_index(int(np.nanargmax(answer.scores())), answer.size)
        return made | {
            "low": float(first.min()),
            "high": float(first.max()),
            "highest_at": [int(row), int(column)],
            "above": next((each.share for each in shares if each.index == 1), 0.0),
            "threshold": threshold,
        }
    return made | {"classes": [dataclasses.asdict(each) for each in shares]}


def _words(found: dict[str, Any]) -> str:
    height, width = found["size"]
    rows = [("image", f"{one_line(found['image'])}, {height} x {width} pixels, {found['seen']:.0%} seen")]
    rows.append(("map", f"{found['map']} {tuple(found['shape'])}"))
    if "classes" in found:
        rows += [(each["label"], f"{each['share']:.1%}") for each in found["classes"][:_SHOWN]]
    else:
        at = f"row {found['highest_at'][0]}, column {found['highest_at'][1]}"
        rows.append(("range", f"{found['low']:.4g} to {found['high']:.4g}, highest at {at}"))
        rows.append((f"above {found['threshold']:g}", f"{found['above']:.1%} of what is seen"))
    return pairs(rows)


def _write(args: argparse.Namespace, answer: Segmentation) -> None:
    if args.out is not None:
        stream = io.BytesIO()
        arrays = {f"map_{name}": values for name, values in answer.maps.items()}
        np.savez(stream, mask=answer.mask(args.threshold), **arrays)  # type: ignore[arg-type]
        write_bytes("--out", args.out, stream.getvalue())
