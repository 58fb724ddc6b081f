"""What commands share that work through folders: options, progress, the last line."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vit_edge.cli.console import check_file, tell_instead
from vit_edge.cli.parser import Commands, Parser
from vit_edge.cli.spread_option import add_spread, spread_of
from vit_edge.errors import UsageError
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.job.answers import Looking, Opening
from vit_edge.runtime.job.merge import merge_results
from vit_edge.runtime.job.names import MOST_LIST_BYTES, WHOLE, Shard, Wanted, listed, names_of
from vit_edge.runtime.job.run import Done, model_of, run_job

STANDARD_INPUT = "-"
_FILES = ("float", "int8")
_ON_TERMINAL_S, _ELSEWHERE_S = 0.5, 30.0  # between two lines of progress


def add_images(parser: Parser) -> None:
    """Which images."""
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="image, or folder of images")
    parser.add_argument(
        "--dir",
        action="append",
        default=[],
        metavar="DIR",
        help="folder with images, also in its sub-folders",
    )
    parser.add_argument(
        "--glob",
        action="append",
        default=[],
        metavar="PATTERN",
        help="of the folders only what matches, such as '**/*.jpg' (in quotes); may be repeated",
    )
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="paths of images, one per line or as find -print0 writes them; - is standard input",
    )


def add_job(parser: Parser) -> None:
    """How a job is cut and worked on."""
    group = parser.add_argument_group("a job with results in a file")
    group.add_argument(
        "--shard", metavar="I/N", help="only this share of the images, such as 2/8; see vit-edge merge"
    )
    add_spread(group, "run the model")
    parser.add_argument(
        "--file", choices=_FILES, help="of a bundle: which model file (default: the bundle's)"
    )


def add(commands: Commands) -> None:
    """Declare `merge`."""
    parser = commands.add_parser("merge", help="join the results of several shards")
    parser.add_argument(
        "parts",
        metavar="PART",
        nargs="+",
        type=Path,
        help=".jsonl, .csv or .parquet of classify, detect or segment",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="with the ending of the parts"
    )
    parser.set_defaults(run=merge)


def merge(args: argparse.Namespace) -> int:
    """`vit-edge merge`."""
    check_file("--out", args.out)
    found = merge_results(args.parts, args.out)
    twice = f", {found.twice} of them in more than one part" if found.twice else ""
    print(f"{args.out}: {found.images} images, {found.failed} errors{twice}", file=sys.stderr)
    return 0


def wanted_of(args: argparse.Namespace) -> Wanted:
    """The images that the arguments name.

    Raises:
        UsageError: none.
    """
    given = [*args.images, *args.dir]
    for folder in args.dir:
        if not Path(folder).is_dir():
            raise UsageError(f"--dir {folder} is no folder")
    if args.glob and not any(map(_is_folder, given)):
        given.append(".")
    if args.list is not None:
        given += listed(_list(args.list))
    if not given:
        raise UsageError("the following arguments are required: IMAGE, or --dir, --glob or --list")
    shard = WHOLE if args.shard is None else Shard.of(args.shard)
    return Wanted(tuple(given), tuple(args.glob), shard)


def images_of(args: argparse.Namespace) -> Sequence[str]:
    """Images to answer for at once, without a file of results.

    Raises:
        UsageError: none, or an option that only a job has.
    """
    for option in ("shard", "workers", "engine"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} is of a job with results in a file; name it with -o")
    wanted = wanted_of(args)
    if not wanted.patterns and not any(map(_is_folder, wanted.given)):
        return wanted.given  # an image that is named twice is answered twice
    return names_of(wanted, args.limits)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Where the rows of a job go."""
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="write a row per image to this .jsonl, .csv or .parquet file as it is answered; the same "
        "command goes on where an earlier run ended",
    )


def work(args: argparse.Namespace, opening: Opening) -> int:
    """Run the job that the arguments describe; 2 where an image has an error, as without a job."""
    results: Path = args.out
    check_file("-o", results)
    rate = Rate(results.name, quiet=args.quiet)
    done = run_job(wanted_of(args), opening, results, spread_of(args), rate)
    rate.finish()
    tell_instead(done.instead_of)
    print(f"{results}: {_told(done)}", file=sys.stderr)
    return 2 if done.failed else 0


def looking_of(args: argparse.Namespace, looking: Looking) -> Opening:
    """How the arguments have a detector or a segmenter opened, whose images are decoded in full."""
    return Opening(
        Path(args.model),
        None,
        provider=args.provider,
        threads=args.threads,
        decoding=Decoding.EXACT,
        model=model_of(args.file, embedder=False),
        limits=args.limits,
        output=getattr(args, "output", None),
        trust=args.trust,
        looking=looking,
    )


def opening_of(args: argparse.Namespace, kind: str | None) -> Opening:
    """How the arguments have a classifier, or the embedder of a kind, opened."""
    more = {} if kind else {"top": args.top, "output": args.output, "output_kind": args.output_kind}
    return Opening(
        Path(args.model),
        kind,
        provider=args.provider,
        threads=args.threads,
        decoding=args.decoding,
        model=model_of(args.file, kind is not None),
        limits=args.limits,
        trust=args.trust,
        **more,
    )


class Rate:
    """Images per second and time left, on standard error: one line that changes, or one now and then.

    Args:
        what: is worked on.
        clock: seconds.
        quiet: say nothing.
    """

    def __init__(
        self, what: str, clock: Callable[[], float] = time.monotonic, *, quiet: bool = False
    ) -> None:
        self._what, self._clock, self._quiet = what, clock, quiet
        self._terminal = sys.stderr.isatty()
        self._pause = _ON_TERMINAL_S if self._terminal else _ELSEWHERE_S
        self._start = self._told = clock()
        self._width = 0

    def __call__(self, done: int, total: int, failed: int) -> None:
        """`done` of `total` images have their row."""
        now = self._clock()
        if self._quiet or now - self._told < self._pause:
            return
        self._told = now
        text = f"{self._what}: {rate_line(done, total, failed, now - self._start)}"
        if self._terminal:
            print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Clear the line."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)


def rate_line(done: int, total: int, failed: int, seconds: float) -> str:
    """`1200/100000 images, 43.1 images/s, 38 min left, 2 errors`."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{duration((total - done) / rate)} left" if rate else "time left unknown"
    return f"{done}/{total} images, {rate:.1f} images/s, {left}" + (f", {failed} errors" if failed else "")


def duration(seconds: float) -> str:
    """`45 s`, `38 min`, `5.2 h` or `3.1 days`."""
    for size, unit, text in ((86_400, "days", ".1f"), (3600, "h", ".1f"), (60, "min", ".0f")):
        if seconds >= (2 * size if unit == "days" else size):
            return f"{seconds / size:{text}} {unit}"
    return f"{seconds:.0f} s"


def _told(done: Done) -> str:
    text = f"{done.images} images"
    if done.earlier:
        text += f", {done.earlier} of them from before"
    return text + (f", {done.failed} with an error" if done.failed else "")


def _is_folder(name: str) -> bool:
    return Path(name).is_dir()


def _list(name: str) -> bytes:
    try:
        if name == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MOST_LIST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MOST_LIST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--list {name} cannot be read ({error.strerror})") from None
    if len(data) > MOST_LIST_BYTES:
        raise UsageError(f"--list {name} is larger than {MOST_LIST_BYTES} bytes; cut it in several")
    return data
