"""What is tolerated of embeddings, as options of the commands that judge them."""

import argparse
import dataclasses
import re

from vit_edge.cli.parser import Parser
from vit_edge.cli.values import finite
from vit_edge.errors import UsageError
from vit_edge.spec import EMBEDDER_OUTPUTS, EmbeddingTolerance


def add_embedder(parser: Parser, text: str, *, quantized: bool = True) -> None:
    """An embedder is wanted, which blocks it gives the patches of, and which of its outputs are used.

    Args:
        parser: of a command.
        text: what the command makes of it, for its help.
        quantized: whether there is an INT8 form to choose.
    """
    parser.add_argument("--embedder", action="store_true", help=text)
    _add_taps(parser)
    if not quantized:
        return
    parser.add_argument(
        "--embedder-for",
        action="append",
        choices=EMBEDDER_OUTPUTS,
        default=[],
        help="with --embedder: the INT8 form is chosen for this output; may be repeated (default: for all)",
    )


def outputs_used(args: argparse.Namespace) -> tuple[str, ...]:
    """Names of the outputs that an embedder is for; empty: all.

    Raises:
        UsageError: there is no embedder.
    """
    if args.embedder_for and not args.embedder:
        raise UsageError("--embedder-for says what an embedder is for: add --embedder, or leave it out")
    return tuple(EMBEDDER_OUTPUTS[name] for name in args.embedder_for)


def add_embedding_tolerance(parser: Parser) -> None:
    """The fields of EmbeddingTolerance beyond those of Tolerance."""
    group = parser.add_argument_group("embeddings")
    defaults = EmbeddingTolerance()
    for name, metavar, text in (
        ("min_cosine", "C", "least mean cosine to the float embedder's"),
        ("min_cosine_tail", "C", "the cosine that all but 1 %% of images must reach"),
        ("min_recall", "PCT", "least percentage of the ten nearest neighbours that are the float embedder's"),
    ):
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=finite,
            metavar=metavar,
            help=f"{text} (default: {getattr(defaults, name):g})",
        )


def embedding_tolerance(args: argparse.Namespace, wanted: bool) -> EmbeddingTolerance:
    """What was stated, and the defaults for the rest.

    Args:
        args: of the command.
        wanted: whether there are embeddings to judge.

    Raises:
        UsageError: a value that no gate could apply, or one that would judge nothing.
    """
    names = [field.name for field in dataclasses.fields(EmbeddingTolerance)]
    stated = {name: value for name in names if (value := getattr(args, name)) is not None}
    if not wanted:
        refuse_idle(args)
    try:
        return EmbeddingTolerance(**stated)
    except ValueError as error:
        raise UsageError(str(error)) from None


def refuse_idle(args: argparse.Namespace) -> None:
    """Refuse what is stated about embeddings where there are none.

    Raises:
        UsageError: the message names the option.
    """
    names = [field.name for field in dataclasses.fields(EmbeddingTolerance) if field.name.startswith("min_")]
    idle = [name for name in names if getattr(args, name) is not None]
    if idle:
        raise UsageError(f"--{idle[0].replace('_', '-')} judges embeddings: add --embedder, or leave it out")


def _add_taps(parser: Parser) -> None:
    """Blocks whose patches an embedder gives, too."""
    parser.add_argument(
        "--taps",
        type=blocks,
        default=(),
        metavar="K,K",
        help="with --embedder: blocks, from 0, whose patches are outputs tap_K, too: (N, rows, columns, D)",
    )


def check_taps(args: argparse.Namespace) -> None:
    """Refuse taps of a file that is no embedder.

    Raises:
        UsageError: they are asked for without --embedder.
    """
    if args.taps and not args.embedder:
        raise UsageError("--taps are outputs of an embedder: add --embedder")


def blocks(text: str) -> tuple[int, ...]:
    """`3,6,9,11`."""
    found = text.split(",")
    if not all(re.fullmatch(r"\d{1,4}", each) for each in found) or len(set(map(int, found))) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different blocks such as 3,6,9,11")
    return tuple(map(int, found))
