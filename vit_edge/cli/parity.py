"""`parity`: do the source's own pipeline and the bundle's float model answer alike on image files?"""

import argparse
from pathlib import Path

from vit_edge.bundle import check_replaceable, is_bundle, read_bundle
from vit_edge.cli import arguments, values
from vit_edge.cli.console import check_json, progress, write_json
from vit_edge.cli.parser import Commands, settings_from
from vit_edge.errors import SourceError, UsageError
from vit_edge.manifest import SIGNATURE
from vit_edge.progress import step_of
from vit_edge.runtime.evaluate.dataset import ImageSet, list_images
from vit_edge.source_parity import ProofState, SourceParity, not_proven

_NOT_PROVEN = 3
_STATUS = {ProofState.PROVEN: 0, ProofState.DIFFERS: 1, ProofState.NOT_PROVEN: _NOT_PROVEN}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "parity", help="the source's own pipeline against the bundle's float model, from image file to label"
    )
    parser.add_argument("source", metavar="SOURCE", help="what the bundle was built from")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle, or its float ONNX file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images, no labels needed")
    arguments.add_reference(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="use N images, spread evenly")
    parser.add_argument(
        "--tolerance",
        type=values.finite,
        default=1e-4,
        metavar="P",
        help="that a probability may differ by (default: 0.0001)",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the result into BUNDLE: manifest, card and report, which selftest then shows",
    )
    arguments.add_formats(parser)
    arguments.add_source(parser)
    arguments.add_json(parser, "the figures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge parity`; 0 proven, 1 they differ, 3 not proven."""
    check_json(args.json)
    if not 0 < args.tolerance < 1:
        raise UsageError(f"--tolerance must lie between 0 and 1, got {args.tolerance}")
    if args.bundle.is_dir() and not is_bundle(args.bundle):
        raise UsageError(f"{args.bundle} is no bundle: pass what `vit-edge build` wrote, or an ONNX file")
    if args.record:
        _check_recordable(args.bundle)
    found = _found(args, list_images(args.data, args.limits))
    write_json(args.json, found.to_json())
    print(f"source -> float {found}")
    for difference in found.shown:
        print(f"  {difference}")
    if found.differ > len(found.shown):
        print(f"  and {found.differ - len(found.shown)} more")
    if args.record:
        print(_recorded(args.bundle, found))
    return _STATUS[found.state]


def _check_recordable(path: Path) -> None:
    """Before minutes of work, see that the result can be written."""
    if not path.is_dir():
        raise UsageError(f"--record writes into a bundle, and {path} is a single file: leave it out")
    check_replaceable(path)


def _recorded(path: Path, found: SourceParity) -> str:
    from vit_edge.host.bundling.recorded import record_parity

    if found.state is ProofState.NOT_PROVEN:
        return f"{path}: nothing is recorded, since nothing could run"
    signed = (path / SIGNATURE).exists()
    record_parity(path, found)
    again = "; its signature was of what it held before and is gone: sign it again" if signed else ""
    return f"{path}: recorded in manifest, card and report{again}"


def _check_same_source(name: str, sha256: str, path: Path) -> None:
    """Refuse to record of a bundle what another checkpoint answers."""
    built_from = read_bundle(path).manifest.source
    if sha256 != built_from.sha256:
        raise UsageError(
            f"{path} was built from {built_from.name} with the SHA-256 {built_from.sha256}, which "
            f"{name} ({sha256}) is not: pass that source, or leave --record out"
        )


def _found(args: argparse.Namespace, images: ImageSet) -> SourceParity:
    from vit_edge.host.reference.attempt import covered
    from vit_edge.host.reference.choose import own_reference
    from vit_edge.host.reference.prove import prove
    from vit_edge.host.reference.recorded import user_reference
    from vit_edge.host.sources import SourceOptions, resolve

    if args.reference is not None:
        reference = user_reference(args.reference, args.data, args.trust_code)
    if args.reference is None or args.record:
        source = resolve(args.source, settings_from(args, SourceOptions))
    if args.record:
        _check_same_source(source.name, source.sha256, args.bundle)
    if args.reference is None:
        try:
            reference = own_reference(source)
        except SourceError as error:
            return not_proven(str(error))
    images = covered(reference, images)
    with progress(args.quiet) as tell:
        return prove(
            reference,
            args.bundle,
            images if args.limit is None else images.limited(args.limit),
            args.tolerance,
            step_of(tell, "parity"),
        )
