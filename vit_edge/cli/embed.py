"""`embed`: the embeddings of images, for another program to work on."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_edge.cli import arguments, jobs
from vit_edge.cli.console import check_file, one_line, tell_each, write_bytes
from vit_edge.cli.parser import Commands
from vit_edge.errors import UsageError
from vit_edge.runtime.job.run import ARRAY_SUFFIX
from vit_edge.runtime.predict.embedder import KINDS, Embedder, Embedding, Floats, without_kind
from vit_edge.spec import TAP, tap_of

_VALUES_SHOWN = 4


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("embed", help="the embeddings of images")
    parser.add_argument(
        "model",
        metavar="BUNDLE",
        help="bundle of an embedding model or built with --embedder, or ONNX file",
    )
    jobs.add_images(parser)
    parser.add_argument(
        "--kind",
        action="append",
        type=kind_named,
        metavar="{cls,pooled,patches,tap_K}",
        dest="kinds",
        help="class token, mean of the patch tokens (of an embedding model its own vector), or grid of patch "
        "tokens, or that behind block K of a file with taps; may be repeated (default: all there are)",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="FILE.npz: arrays images (N,), cls (N, D), pooled (N, D), patches (N, rows, columns, D), all at "
        "the end; FILE.npy: a job, one --kind (default: pooled), float32 (N, ...), written as it goes, with "
        "the images in FILE.npy.jsonl",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image and line")
    jobs.add_job(parser)
    arguments.add_decoding(parser)
    arguments.add_formats(parser)
    arguments.add_session(parser)
    arguments.add_trust(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge embed`; a bad image is reported, the rest goes on, and the status is 2."""
    check_file("--out", args.out)
    if args.out is not None and args.out.suffix == ARRAY_SUFFIX:
        return jobs.work(args, jobs.opening_of(args, _one_kind(args)))
    images = jobs.images_of(args)
    embed = jobs.opening_of(args, KINDS[0]).embedder()
    kinds = _kinds(embed, args)
    kept: dict[str, list[Floats]] = {kind: [] for kind in kinds}
    names: list[str] = []

    def tell(image: str, answer: Embedding) -> None:
        found = {kind: answer.of(kind) for kind in kinds}
        if args.json:
            print(json.dumps({"image": image} | {kind: values.tolist() for kind, values in found.items()}))
        elif args.out is None:
            print("\n".join([one_line(image), *(_shown(kind, values) for kind, values in found.items())]))
        if args.out is not None:
            names.append(image)
            for kind, values in found.items():
                kept[kind].append(values)

    status = tell_each(images, embed.batch(images), args.json, tell)
    if names:
        _write(args.out, names, kept)
    return status


def _one_kind(args: argparse.Namespace) -> str:
    """The kind of a job, whose array has one."""
    kinds = set(args.kinds or ["pooled"])
    if len(kinds) > 1:
        raise UsageError(f"an array has one kind; start one job for each --kind ({', '.join(sorted(kinds))})")
    if args.json:
        raise UsageError("--json prints, a .npy file is a job; give one of them")
    return str(kinds.pop())


def _kinds(embed: Embedder, args: argparse.Namespace) -> tuple[str, ...]:
    """What is asked for, in a fixed order."""
    lacking = [kind for kind in args.kinds or () if kind not in embed.kinds]
    if lacking:
        raise UsageError(without_kind(Path(args.model), lacking[0], embed.kinds))
    return tuple(kind for kind in embed.kinds if kind in (args.kinds or embed.kinds))


def _shown(kind: str, values: Floats) -> str:
    """Shape and first values."""
    first = " ".join(f"{value:.4f}" for value in values.reshape(-1)[:_VALUES_SHOWN])
    return f"  {kind} {values.shape}: {first} ..."


def _write(path: Path, names: Sequence[str], kept: dict[str, list[Floats]]) -> None:
    stream = io.BytesIO()
    np.savez(stream, images=np.asarray(names), **{kind: np.stack(rows) for kind, rows in kept.items()})  # type: ignore[arg-type]
    write_bytes("--out", path, stream.getvalue())
    print(f"{path}: {len(names)} images, {', '.join(kept)}", file=sys.stderr)


def kind_named(text: str) -> str:
    """A kind of embedding."""
    if text not in KINDS and tap_of(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(KINDS)} and {TAP}K, K being a block"
        )
    return text
