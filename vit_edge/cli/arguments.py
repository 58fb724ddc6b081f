"""Arguments that several commands share."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from vit_edge.cli.parser import Parser
from vit_edge.cli.spread_option import add_spread
from vit_edge.cli.values import Allow, Triple, finite, image_format, names_of, one_of, size, threads
from vit_edge.runtime.image.limits import DEFAULT_FORMATS, DEFAULT_LIMITS, ImageFormat
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.spec import OPSETS, CropRule, Interpolation, MapLimits, OutputKind, ResizeMode
from vit_edge.stated import StatedPreprocess

_QUANT = "quant-"


def add_source(parser: Parser) -> None:
    """What states a source beyond its name; the fields of SourceOptions."""
    group = parser.add_argument_group("source", "what is stated here wins over what the source says")
    group.add_argument("--arch", help="architecture of a bare weights file, such as vit_tiny_patch16_224")
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="one class name per line, or JSON (list, or id2label object)",
    )
    group.add_argument(
        "--labels-text",
        type=Path,
        metavar="FILE",
        help="of a CLIP or SigLIP with both towers: class names, as in --labels, to classify by",
    )
    group.add_argument(
        "--template", metavar="TEXT", help="text of a class, {} being its name: 'a photo of a {}' by default"
    )
    _add_preprocessing(group)
    group.add_argument(
        "--weights", metavar="NAME", help="which set of a checkpoint that holds several, such as model_ema"
    )
    add_output(group)
    group.add_argument("--allow-pickle", action="store_true", help="run the code inside a .pth file")
    group.add_argument("--trust-code", action="store_true", help="import the module of module:callable")


def add_preprocessing(parser: Parser) -> None:
    """How images are preprocessed for model files that do not say it; the fields of StatedPreprocess."""
    _add_preprocessing(
        parser.add_argument_group("preprocessing", "of the models that do not carry it themselves")
    )


def add_quant_side(parser: Parser) -> None:
    """What holds for the second model of a comparison alone."""
    group = parser.add_argument_group(
        "QUANT alone",
        "where its images, or its outputs, are otherwise than FLOAT's; the rest is as for FLOAT",
    )
    _add_preprocessing(group, _QUANT)
    add_output(group, probabilities=True, prefix=_QUANT)


def quant_side(args: argparse.Namespace) -> tuple[StatedPreprocess, OutputWanted]:
    """What was stated of the second model alone, and of its outputs, which are by default as the first's."""
    names = [field.name for field in dataclasses.fields(StatedPreprocess)]
    stated = StatedPreprocess(**{name: getattr(args, f"quant_{name}") for name in names})
    return stated, OutputWanted(args.quant_output or args.output, args.quant_output_kind or args.output_kind)


def _add_preprocessing(group: argparse._ArgumentGroup, prefix: str = "") -> None:
    group.add_argument(
        f"--{prefix}image-size", type=size, metavar="PX", help="input size: 224 or HEIGHTxWIDTH"
    )
    for name in ("mean", "std"):
        group.add_argument(
            f"--{prefix}{name}",
            type=finite,
            nargs=3,
            action=Triple,
            metavar=("R", "G", "B"),
            help=f"{name} of pixel/255",
        )
    group.add_argument(
        f"--{prefix}interpolation",
        type=one_of(Interpolation),
        metavar=names_of(Interpolation),
    )
    group.add_argument(
        f"--{prefix}crop-pct", type=finite, metavar="SHARE", help="share of the resized image that is kept"
    )
    group.add_argument(f"--{prefix}resize-mode", type=one_of(ResizeMode), metavar=names_of(ResizeMode))
    group.add_argument(
        f"--{prefix}crop-rule",
        type=one_of(CropRule),
        metavar=names_of(CropRule),
        help="who halves an odd margin of the centre crop (default: the source's library)",
    )


def add_reference(parser: Parser) -> None:
    """What answers for the source, where that is not its own library."""
    parser.add_argument(
        "--reference",
        metavar="FILE|MODULE:CALLABLE",
        help="compare with these predictions instead of the source's own pipeline: CSV "
        "(path,label,probability), JSON, or a function from a path to probabilities",
    )


def add_uncanonical(parser: Parser) -> None:
    """The way past the contract."""
    parser.add_argument(
        "--allow-uncanonical",
        action="store_true",
        help="go on with what was recognised of a graph that is no plain ViT",
    )


def add_quantize(parser: Parser) -> None:
    """What calibration needs; the fields of QuantizeSettings."""
    parser.add_argument(
        "--calib",
        type=Path,
        required=True,
        metavar="DIR",
        dest="calibration",
        help="images, no labels needed",
    )
    few = "use at most N of them"
    parser.add_argument("--calib-images", type=int, default=128, metavar="N", dest="images", help=few)
    parser.add_argument(
        "--calib-cache",
        type=Path,
        metavar="DIR",
        dest="cache",
        help="keep what calibration saw here: an interrupted pass resumes, another preset skips it",
    )
    parser.add_argument(
        "--preset",
        choices=("accurate", "balanced", "fast", "static"),
        default="balanced",
        help="accuracy against speed; static: one range for every layer, no search (default: %(default)s)",
    )
    add_spread(parser, "calibrate")
    add_formats(parser)


def add_versions(parser: Parser) -> None:
    """What older or newer runtimes need; the fields of VersionsWanted."""
    parser.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help=f"opset of what is written, {OPSETS[0]} to {OPSETS[-1]} (default: 20, or what the target says)",
    )
    parser.add_argument(
        "--ir",
        type=int,
        metavar="N",
        help="IR version of what is written (default: the oldest of the opset's time)",
    )


def add_tolerance(parser: Parser) -> None:
    """The fields of Tolerance."""
    parser.add_argument(
        "--max-drop",
        type=finite,
        default=1.0,
        metavar="PTS",
        help="tolerated drop in points of top-1 (default: 1)",
    )
    parser.add_argument(
        "--max-changed",
        type=finite,
        default=3.0,
        metavar="PCT",
        help="without labels: tolerated percentage of images whose prediction changes (default: 3)",
    )
    maps = parser.add_argument_group("maps", "within which an image's map counts as unchanged")
    for flag, share, what in (
        ("--min-correlation", MapLimits.min_correlation, "correlation with the float model's map"),
        ("--max-difference", MapLimits.max_difference, "mean absolute difference, percent of their range"),
        ("--min-overlap", MapLimits.min_overlap, "mean intersection over union of the largest channel"),
        ("--min-boxes", MapLimits.min_boxes, "of a detector: share of shown boxes that are matched"),
    ):
        maps.add_argument(flag, type=finite, default=share, metavar="X", help=f"{what} (default: {share:g})")
    confidence = "two-sided confidence (default: %(default)s)"
    parser.add_argument("--confidence", type=finite, default=0.95, metavar="C", help=confidence)


def add_expected(parser: Parser) -> None:
    """What the float model must reach."""
    parser.add_argument(
        "--expect-top1",
        type=finite,
        metavar="PCT",
        help="top-1 that the float model is known to reach: an error that names the model, not the "
        "quantization, where it is lower",
    )


def add_output(parser: Any, probabilities: bool = False, prefix: str = "") -> None:
    """Which output of an ONNX file holds the answers, and what they mean.

    Args:
        parser: of the command.
        probabilities: whether they may be read as they are, behind a Softmax or Sigmoid that does not show.
        prefix: of the options' names.
    """
    parser.add_argument(
        f"--{prefix}output",
        metavar="NAME",
        help="of an ONNX file with several outputs, the one that holds the answers",
    )
    kinds = [kind for kind in OutputKind if probabilities or kind.logits is kind]
    parser.add_argument(
        f"--{prefix}output-kind",
        type=one_of(kinds),
        metavar=names_of(kinds),
        help="what its numbers mean, where the model does not say so",
    )


def add_class_ids(parser: Parser) -> None:
    """How folders that are named by id become classes."""
    parser.add_argument(
        "--class-ids",
        type=Path,
        metavar="FILE",
        help="one class per line in index order, its id first (WordNet ids)",
    )


def add_decoding(parser: Parser) -> None:
    """How large images are reduced."""
    parser.add_argument(
        "--exact",
        action="store_const",
        const=Decoding.EXACT,
        default=Decoding.FAST,
        dest="decoding",
        help="reduce large images exactly as in training, which takes longer",
    )


def add_formats(parser: Parser) -> None:
    """Formats of images beyond the four that are always taken."""
    more = [each for each in ImageFormat if each not in DEFAULT_FORMATS]
    names = ", ".join(each.name.lower() for each in more)
    parser.add_argument(
        "--allow-format",
        type=image_format,
        action=Allow,
        default=DEFAULT_LIMITS,
        dest="limits",
        metavar="NAME",
        help=f"take images of this format, too ({names}); may be repeated",
    )


def add_session(parser: Parser, provider: bool = True) -> None:
    """The fields of SessionSettings."""
    parser.add_argument(
        "--threads",
        type=threads,
        metavar="N",
        help="threads within one operator, or auto: what is fastest here (default: onnxruntime's)",
    )
    if provider:
        parser.add_argument(
            "--provider",
            default="auto",
            metavar="NAME",
            help="execution provider (default: the first that works)",
        )


def add_trust(parser: Parser) -> None:
    """Whose signature a bundle must bear."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="KEY",
        help="public key (PEM): only run the bundle if it is what the owner of this key has signed",
    )


def add_json(parser: Parser, what: str) -> None:
    """Where the figures go for a program to read."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"write {what} as JSON; - is standard output"
    )
