"""Arguments that several commands share, and how they become settings."""

import argparse
import dataclasses
import math
import re
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Protocol, TypeVar

from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.runtime.image.limits import DEFAULT_FORMATS, DEFAULT_LIMITS, DecodeLimits, ImageFormat
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.session.providers import AUTO
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import OPSETS, CropRule, Interpolation, OutputKind, ResizeMode
from vit_edge.stated import StatedPreprocess

EXIT_STATUS = "Exit status: 0 done or PASS, 1 FAIL, 2 usage or bad input, 3 UNDECIDED."


_QUANT = "quant-"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageError, one sentence without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        raise UsageError(f"{message}; see {self.prog} --help")


class CommandParser(Parser):
    """A parser for one command; it takes what every command takes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, epilog=EXIT_STATUS)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")


class Commands(Protocol):
    """What `add_subparsers` returns."""

    def add_parser(self, name: str, **settings: Any) -> Parser:
        """A parser for one command."""
        ...


class Settings(Protocol):
    """A settings dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


S = TypeVar("S", bound=Settings)


def settings_from(args: argparse.Namespace, kind: type[S], **stated: Any) -> S:
    """A settings dataclass filled from the arguments that bear the names of its fields.

    Raises:
        UsageError: a value that the dataclass refuses.
    """
    values = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(kind)
        if hasattr(args, field.name)
    }
    try:
        return kind(**{**values, **stated})
    except VitEdgeError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


def session_settings(args: argparse.Namespace) -> SessionSettings:
    """Provider and threads."""
    return settings_from(args, SessionSettings)


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
            action=_Triple,
            metavar=("R", "G", "B"),
            help=f"{name} of pixel/255",
        )
    group.add_argument(
        f"--{prefix}interpolation",
        type=Interpolation,
        choices=list(Interpolation),
        metavar=_names(Interpolation),
    )
    group.add_argument(
        f"--{prefix}crop-pct", type=finite, metavar="SHARE", help="share of the resized image that is kept"
    )
    group.add_argument(
        f"--{prefix}resize-mode", type=ResizeMode, choices=list(ResizeMode), metavar=_names(ResizeMode)
    )
    group.add_argument(
        f"--{prefix}crop-rule",
        type=CropRule,
        choices=list(CropRule),
        metavar=_names(CropRule),
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
    parser.add_argument(
        "--calib-images", type=int, default=128, metavar="N", dest="images", help="use at most N of them"
    )
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
    parser.add_argument(
        "--confidence",
        type=finite,
        default=0.95,
        metavar="C",
        help="two-sided confidence (default: %(default)s)",
    )


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
        type=OutputKind,
        choices=kinds,
        metavar="{" + ",".join(kind.value for kind in kinds) + "}",
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
        type=_image_format,
        action=_Allow,
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


def folder(text: str) -> Path:
    """The folder to write."""
    if text == "-":
        raise argparse.ArgumentTypeError("a folder cannot go to standard output; name one")
    return Path(text)


def finite(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def threads(text: str) -> int | Literal["auto"]:
    """A number of threads, or `auto`."""
    if text == AUTO:
        return AUTO
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of threads nor auto") from None


def size(text: str) -> tuple[int, int]:
    """`224`, or `HEIGHTxWIDTH`."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a size such as 224 nor HEIGHTxWIDTH")
    height = int(found[1])
    return height, int(found[2] or height)


class _Triple(argparse.Action):
    """Three values as a tuple."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Keep them."""
        del parser, option
        setattr(namespace, self.dest, tuple(values))


class _Allow(argparse.Action):
    """Limits that let one more format in."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Add it."""
        del parser, option
        limits: DecodeLimits = getattr(namespace, self.dest)
        formats = dict.fromkeys([*limits.formats, values])
        setattr(namespace, self.dest, dataclasses.replace(limits, formats=tuple(formats)))


def _image_format(text: str) -> ImageFormat:
    try:
        return ImageFormat[text.upper()]
    except KeyError:
        known = ", ".join(each.name.lower() for each in ImageFormat)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}") from None


def _names(kind: type[Interpolation] | type[ResizeMode] | type[CropRule]) -> str:
    return "{" + ",".join(str(member.value) for member in kind) + "}"
