"""`bundle diff`: what changed from one bundle to another?"""

import argparse
from itertools import groupby
from pathlib import Path

from vit_edge.cli import arguments
from vit_edge.cli.console import check_json, table, write_json
from vit_edge.cli.parser import Commands
from vit_edge.runtime.differences import Difference, differences

_MOST = 12  # of one kind that are shown; --json has all


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("bundle", help="diff: what changed from one bundle to another")
    parser.add_argument("action", choices=("diff",), metavar="diff")
    parser.add_argument("before", type=Path, metavar="BEFORE", help="bundle")
    parser.add_argument("after", type=Path, metavar="AFTER", help="bundle")
    arguments.add_json(parser, "the differences")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge bundle diff`; 0 if nothing differs, 1 if something does."""
    check_json(args.json)
    found = differences(args.before, args.after)
    write_json(args.json, [each.to_json() for each in found])
    print(summary(found) if found else "nothing differs")
    return 1 if found else 0


def summary(found: tuple[Difference, ...]) -> str:
    """A row for each difference; of many of one kind the first, and how many more there are."""
    rows = [["what", "", "before", "after"]]
    more = []
    for kind, group in groupby(found, key=lambda each: each.kind):
        every = list(group)
        rows += [[kind, each.what, each.before, each.after] for each in every[:_MOST]]
        if len(every) > _MOST:
            more.append(f"{kind}: {len(every) - _MOST} more")
    return "\n".join([table(rows), *more])
