"""`detect`: the objects in images, in words, as JSON or drawn."""

import argparse
import json
from typing import Any

from vit_edge.cli import jobs, places
from vit_edge.cli.console import one_line, pairs, tell_each, tell_instead
from vit_edge.cli.parser import Commands
from vit_edge.errors import UsageError
from vit_edge.runtime.job.answers import Looking
from vit_edge.runtime.predict.detection import Detection, drawn
from vit_edge.runtime.predict.detector import THRESHOLD


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("detect", help="the objects in images: class, score and box of each")
    least = "the least probability of an object that is shown"
    places.add_places(parser, "a detector", "its boxes", (THRESHOLD, least))
    jobs.add_out(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge detect`; a bad image is reported, the rest goes on, and the status is 2."""
    if not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold must lie between 0 and 1, got {args.threshold}")
    opening = jobs.looking_of(args, Looking(args.threshold))
    if args.out is not None:
        places.check_job(args)
        return jobs.work(args, opening)
    images = jobs.images_of(args)
    places.check_one_image(images, {"--draw": args.draw})
    detect = opening.detector()
    tell_instead(detect.instead_of)

    def tell(image: str, answer: tuple[Detection, ...]) -> None:
        print(json.dumps(_found(image, answer)) if args.json else _words(image, answer))
        places.draw(args, image, lambda picture: drawn(picture, answer))

    answers = detect.batch(images, threshold=args.threshold)
    return tell_each(images, answers, args.json, tell)


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
