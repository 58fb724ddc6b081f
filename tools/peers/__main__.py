"""Everybody's INT8 quantizers beside ours: the same weights, the same calibration, the same images.

python -m tools.peers --source HF_FOLDER --calib DIR --data DIR -o results.json [--only NAME ...]
python -m tools.peers --prepare

Each quantizer is installed with pip into an environment of its own and does its documented recipe there
(tools/peers/recipes); what cannot be installed, refuses the model or takes too long has a row with the
reason. Every file then runs in the engines that it is for, one thread, one image, in processes of their own
that wait for their turn, so that what slows the machine slows all of them. Environments, models and answers
are kept in --work: a second call goes on where the first ended. An output that exists keeps its results of
other kinds of CPU and, of the same images and machine, those of quantizers that a run leaves out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.peers.catalogue import ENVIRONMENTS, VARIANTS, Variant
from tools.peers.comparison import compare
from tools.peers.environments import prepare
from tools.peers.making import LIMIT_S
from tools.peers.record import before_it, joined, kind_of
from tools.peers.report import rounded
from tools.peers.table import markdown
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.files import write_file
from vit_edge.host.sources import Source, SourceKind, SourceOptions, resolve


def main(words: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        if given.prepare:
            return prepared(given.work / "environments")
        variants = chosen(given.only, given.skip)
        result = rounded(compare(given, wanted(given), variants))
        record = joined(given.output, result)
        write_file(given.output, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    except VitEdgeError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    print(markdown(record[kind_of(result["machine"]["flags"])]))
    return 0


def wanted(given: argparse.Namespace) -> Source:
    """The model, once nothing speaks against hours of work.

    Raises:
        UsageError: an option that is missing or cannot be, or an output for something else.
        VitEdgeError: no model there.
    """
    if None in (given.source, given.calib, given.data, given.output):
        raise UsageError("name --source, --calib, --data and -o, or pass --prepare")
    for option in ("rounds", "limit_s"):
        if getattr(given, option) < 1:
            raise UsageError(f"--{option.replace('_', '-')} {getattr(given, option)}: give 1 or more")
    if not given.output.parent.is_dir():
        raise UsageError(f"{given.output} cannot be written: name a JSON file in a folder that exists")
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    if source.huggingface_config.get("model_type") != "vit" or source.kind is not SourceKind.HUGGINGFACE:
        raise UsageError(
            f"{given.source} is no Hugging Face folder of a ViTForImageClassification, which the recipes open"
        )
    before_it(given.output, source.sha256)
    return source


def chosen(environments: Sequence[str], skipped: Sequence[str] = ()) -> list[Variant]:
    """The quantizers of these environments, all by default, without those of some rows.

    Raises:
        UsageError: an unknown name.
    """
    for named, known in (
        (environments, {variant.environment for variant in VARIANTS}),
        (skipped, {variant.name for variant in VARIANTS}),
    ):
        for name in named:
            if name not in known:
                raise UsageError(f"nothing is called {name!r}; known are {', '.join(sorted(known))}")
    wanted = environments or list(ENVIRONMENTS)
    return [variant for variant in VARIANTS if variant.environment in wanted and variant.name not in skipped]


def prepared(folder: Path) -> int:
    """Make every environment, and say what came of it; 2 where one could not be made."""
    status = 0
    for name, environment in ENVIRONMENTS.items():
        found = prepare(environment, folder)
        if found.reason is None:
            print(f"{name}: {found.size_mb:.0f} MB", flush=True)
        else:
            print(f"peers: {name}: {found.reason}", file=sys.stderr, flush=True)
            status = 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prepare", action="store_true", help="make the environments, and nothing else")
    parser.add_argument("--source", type=Path, help="Hugging Face folder of a ViT classifier")
    parser.add_argument("--calib", type=Path, help="folder of calibration images")
    parser.add_argument("--data", type=Path, help="folder of labelled images to evaluate on")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="environments; all by default")
    parser.add_argument(
        "--skip", nargs="+", default=[], metavar="NAME", help="quantizers, by their rows' names"
    )
    parser.add_argument("--calib-images", type=int, default=128, help="calibration images used at most")
    parser.add_argument("--limit", type=int, help="evaluation images used at most")
    parser.add_argument("--crop-pct", type=float, help="replaces the folder's own resize")
    limit = "seconds of the processor after which a quantizer is ended"
    parser.add_argument("--limit-s", type=int, default=LIMIT_S, help=limit)
    parser.add_argument("--rounds", type=int, default=40, help="of latency")
    parser.add_argument(
        "--work", type=Path, default=Path("build/peers"), help="where all that is made is kept"
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
