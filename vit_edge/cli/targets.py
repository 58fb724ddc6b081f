"""`targets`: the device classes that models can be made for."""

import argparse

from vit_edge.cli.arguments import Commands
from vit_edge.cli.console import pairs
from vit_edge.targets import list_targets, load_target


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("targets", help="the device classes that models can be made for")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge targets`."""
    del args
    for target in map(load_target, list_targets()):
        attention = "INT8" if target.integer_attention else "float"
        rows = [
            ("input", f"{target.input_form.value}, {target.batch.value} batch"),
            ("attention", attention),
            ("needs", target.wheel),
            ("verified on", "; ".join(target.verified) or "nothing yet"),
        ]
        print(f"{target.name} ({target.title}): {target.description}")
        print("\n".join(f"  {line}" for line in pairs(rows).splitlines()))
    return 0
