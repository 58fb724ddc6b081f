"""`classify`: what is on these images?"""

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence

from vit_edge.cli import arguments, jobs
from vit_edge.cli.console import complain, one_line, tell_each, tell_instead
from vit_edge.cli.parser import Commands
from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.job.merge import form_of
from vit_edge.runtime.job.parquet import lines_of
from vit_edge.runtime.predict.classifier import Prediction
from vit_edge.spec import OutputKind

Answer = Sequence[Prediction] | ImageError


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("classify", help="the most probable classes of images, or their values")
    parser.add_argument("model", metavar="BUNDLE", help="bundle or ONNX file")
    jobs.add_images(parser)
    jobs.add_out(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    jobs.add_job(parser)
    arguments.add_decoding(parser)
    arguments.add_formats(parser)
    arguments.add_output(parser, probabilities=True)
    arguments.add_session(parser)
    arguments.add_trust(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge classify`; a bad image is reported, the rest goes on, and the status is 2."""
    if args.out is not None:
        form_of(lines_of(args.out))
        if args.json:
            raise UsageError("--json prints, -o writes; give one of them")
        return jobs.work(args, jobs.opening_of(args, None))
    images = jobs.images_of(args)
    classify = jobs.opening_of(args, None).classifier()
    tell_instead(classify.instead_of)
    answers = classify.batch(images, top_k=args.top)
    if args.json:
        return _as_json(zip(images, answers, strict=True))
    shown = _value if classify.kind is OutputKind.REGRESSION else _percent

    def tell(image: str, answer: Sequence[Prediction]) -> None:
        print(one_line(image))
        print("\n".join(f"  {shown(each.score)}  {one_line(each.label)}" for each in answer))

    return tell_each(images, answers, False, tell)


def _as_json(answers: Iterable[tuple[str, Answer]]) -> int:
    found = list(answers)
    print(json.dumps([_to_json(image, answer) for image, answer in found], indent=1))
    refused = [answer for _, answer in found if isinstance(answer, ImageError)]
    for error in refused:
        complain(error)
    return 2 if refused else 0


def _percent(score: float) -> str:
    return f"{100 * score:6.2f} %"


def _value(score: float) -> str:
    return f"{score:10.6g}"


def _to_json(image: str, answer: Answer) -> dict[str, object]:
    if isinstance(answer, ImageError):
        return {"image": image, "error": str(answer)}
    return {"image": image, "predictions": [dataclasses.asdict(each) for each in answer]}
