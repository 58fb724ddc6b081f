"""`--merge-tokens`: what asks for fewer tokens, what it goes with, and what came of it."""

import argparse
from typing import Any

from vit_edge.cli.parser import Parser
from vit_edge.cli.values import tokens
from vit_edge.errors import UsageError
from vit_edge.manifest import MergingRecord

_WITH_PATCHES = ("embedder", "attention")  # options whose files have an output for each patch


def add_merging(parser: Parser, what: str) -> None:
    """How many tokens merge in each block.

    Args:
        parser: of the command.
        what: becomes of it, for the help.
    """
    parser.add_argument(
        "--merge-tokens",
        type=tokens,
        default=0,
        metavar="R",
        help=f"in each block, R tokens become part of the most alike others, without retraining; {what}",
    )


def check_alone(args: argparse.Namespace) -> None:
    """Refuse it beside what needs a token for each patch.

    Raises:
        UsageError: names both options.
    """
    other = next((name for name in _WITH_PATCHES if getattr(args, name, False)), None)
    if args.merge_tokens and other is not None:
        raise UsageError(f"--merge-tokens leaves no grid of patches, which --{other} gives: leave one out")


def tell_merging(canonical: Any) -> None:
    """How many tokens are left of a canonical model, where any merge."""
    if canonical is not None and canonical.merging is not None:
        print(f"{canonical.merging}; `vit-edge compare` says what it costs")


def merging_lines(record: MergingRecord | None) -> list[str]:
    """What became of it in a build, a line for each INT8 file."""
    if record is None:
        return []
    left = f", {record.tokens[-1]} tokens left" if record.tokens else ""
    return [
        f"{record.count} tokens per block{left}: {name}: {became}" for name, became in record.files.items()
    ]
