"""What is true of maps or boxes, as an option of the commands that judge them."""

import argparse
from pathlib import Path

from vit_edge.cli.parser import Parser
from vit_edge.errors import UsageError


def add_truth(parser: Parser) -> None:
    """Where true boxes or masks are."""
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="FILE|DIR",
        help="of the images in --data: true boxes as COCO JSON for a detector, or a folder of masks for "
        "maps; the verdict is then on the drop in mAP or mIoU, of which --max-drop points are tolerated",
    )


def check_truth(args: argparse.Namespace, places: bool) -> None:
    """Refuse truth of places for a model that gives none, and of images that are not there.

    Args:
        args: of the command.
        places: whether the model gives boxes or maps.

    Raises:
        UsageError: either is stated.
    """
    if args.truth is not None and not places:
        raise UsageError(
            "--truth is of models of boxes or maps; for others label the images by folders or a labels.csv"
        )
    if args.truth is not None and args.data is None:
        raise UsageError("--truth is of the images in --data; name their folder")
