"""What a command names is looked at before anything large is imported and before minutes of work."""

import argparse
from collections.abc import Callable
from pathlib import Path

from vit_edge.cli.console import check_file
from vit_edge.errors import DatasetError, SourceError, UsageError
from vit_edge.runtime.evaluate.folder import found_below
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits

# Below so many images a range misses what the next image holds; ViT-Tiny's settle from some 30 on.
FEW_IMAGES = 16

SOURCE_SUFFIXES = (".onnx", ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def check_inputs(args: argparse.Namespace, option_of: Callable[[str], str]) -> None:
    """Refuse images, files and a source that are not there, and a file that cannot be written.

    Args:
        args: of any command; of several names for the same thing each command has its own.
        option_of: what the user calls an argument.

    Raises:
        DatasetError: no folder, or no image in it.
        UsageError: a file that an option names is missing or a folder.
        SourceError: the source is a path, and nothing is there.
    """
    limits = getattr(args, "limits", DEFAULT_LIMITS)
    for name in ("calibration", "calib", "data"):
        if isinstance(folder := getattr(args, name, None), Path):
            _check_images(option_of(name), folder, limits)
    for name in ("labels", "labels_text", "class_ids", "trust"):
        if isinstance(path := getattr(args, name, None), Path):
            _check_readable(option_of(name), path)
    if isinstance(source := getattr(args, "source", None), str):
        check_source(source)


def check_source(text: str) -> None:
    """Refuse a source that is the path of a file which does not exist.

    Raises:
        SourceError: it is; a name of another kind is left to who resolves it.
    """
    named = text.partition("@")[2] if text.startswith("timm:") else text
    path = Path(named)
    if path.suffix in SOURCE_SUFFIXES and not path.exists():
        raise SourceError(f"{path} does not exist; check the path of SOURCE")


def check_out(path: Path) -> None:
    """Refuse a file that `-o` names and that cannot be written.

    Raises:
        UsageError: as in `check_file`.
    """
    check_file("-o", path)


def few_images(folder: Path, most: int, limits: DecodeLimits) -> list[str]:
    """A note where a calibration sees too few images for its ranges to hold; none where it does not."""
    count = min(most, len(found_below(folder, limits)))
    if count >= FEW_IMAGES:
        return []
    images = "1 image" if count == 1 else f"{count} images"
    return [
        f"calibration saw {images} only: ranges from so few rarely hold for the next image; "
        "128 are usual (--calib, --calib-images)"
    ]


def _check_images(option: str, folder: Path, limits: DecodeLimits) -> None:
    try:
        found_below(folder, limits)
    except DatasetError as error:
        raise DatasetError(f"{option}: {error}") from None


def _check_readable(option: str, path: Path) -> None:
    if not path.exists():
        raise UsageError(f"{option} {path} does not exist; check the path")
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; name the file itself")
