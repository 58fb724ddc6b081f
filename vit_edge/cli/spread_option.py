"""Who works on many images: options of the commands that go through folders."""

import argparse
from typing import Any

from vit_edge.cli.values import names_of, one_of
from vit_edge.runtime.spread.results import check_spread
from vit_edge.runtime.spread.task import Engine, Spread


def add_spread(parser: Any, work: str) -> None:
    """How work is spread over processes or machines.

    Args:
        parser: a parser, or a group of one.
        work: what the workers do, for the help.
    """
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes that {work}, each with one thread unless --threads says otherwise (default: 1; of "
        "an engine one for each CPU)",
    )
    parser.add_argument(
        "--engine",
        type=one_of(Engine),
        metavar=names_of(Engine),
        help="spread this over the machines of a cluster: the one that RAY_ADDRESS names or that runs here, "
        "else one of this machine alone",
    )


def spread_of(args: argparse.Namespace) -> Spread:
    """What the arguments ask for.

    Raises:
        UsageError: no worker.
        MissingExtraError: the engine is not installed.
    """
    spread = Spread(args.workers, args.engine)
    check_spread(spread)
    return spread
