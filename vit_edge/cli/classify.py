"""`classify`: what is on these images?"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from vit_edge.cli import arguments
from vit_edge.cli.arguments import Commands
from vit_edge.cli.console import one_line
from vit_edge.errors import ImageError
from vit_edge.runtime.predict.classifier import Classifier, Prediction
from vit_edge.spec import OutputKind

Answer = Sequence[Prediction] | ImageError


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("classify", help="the most probable classes of images, or their values")
    parser.add_argument("model", metavar="BUNDLE", help="bundle or ONNX file")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_decoding(parser)
    arguments.add_formats(parser)
    arguments.add_output(parser, probabilities=True)
    arguments.add_session(parser)
    arguments.add_trust(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge classify`; a bad image is reported, the rest goes on, and the status is 2."""
    classify = Classifier(
        args.model,
        args.provider,
        args.threads,
        args.decoding,
        limits=args.limits,
        output=args.output,
        kind=args.output_kind,
        trust=args.trust,
    )
    shown = _value if classify.kind is OutputKind.REGRESSION else _percent
    answers = list(zip(args.images, classify.batch(args.images, top_k=args.top), strict=True))
    if args.json:
        print(json.dumps([_to_json(image, answer) for image, answer in answers], indent=1))
    for image, answer in answers:
        if isinstance(answer, ImageError):
            print(f"vit-edge: error: {one_line(str(answer))}", file=sys.stderr)
        elif not args.json:
            print(one_line(image))
            print("\n".join(f"  {shown(each.score)}  {one_line(each.label)}" for each in answer))
    return 2 if any(isinstance(answer, ImageError) for _, answer in answers) else 0


def _percent(score: float) -> str:
    return f"{100 * score:6.2f} %"


def _value(score: float) -> str:
    return f"{score:10.6g}"


def _to_json(image: str, answer: Answer) -> dict[str, object]:
    if isinstance(answer, ImageError):
        return {"image": image, "error": str(answer)}
    return {"image": image, "predictions": [dataclasses.asdict(each) for each in answer]}
