"""`explain`: what in this image does the answer rest on, and did quantization move it?"""

import argparse
import io
from pathlib import Path

from vit_edge.bundle import Role, is_bundle, read_bundle
from vit_edge.cli import arguments
from vit_edge.cli.console import check_file, one_line, write_bytes
from vit_edge.cli.parser import Commands
from vit_edge.errors import UsageError
from vit_edge.runtime.evaluate.compatible import read_quantized
from vit_edge.runtime.explain.draw import Shown, draw
from vit_edge.runtime.explain.explainer import STEPS, Explainer, Method, correlation


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain", help="a map of what an answer rests on, float and INT8 side by side"
    )
    parser.add_argument(
        "model",
        metavar="BUNDLE",
        type=Path,
        help="bundle, whose float and INT8 models are shown side by side, or an ONNX file",
    )
    parser.add_argument("image", metavar="IMAGE", help="image file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument(
        "--method",
        choices=[each.value for each in Method],
        default=Method.OCCLUSION.value,
        help="occlusion: for any classifier; rollout, or cls (attention of the last block): for files that "
        "export --attention or quantize --attention have made; gradient: attention by what it does for a "
        "class, of float files, with torch (default: %(default)s)",
    )
    parser.add_argument(
        "--against", type=Path, metavar="MODEL", help="ONNX file or bundle to show beside the first"
    )
    parser.add_argument(
        "--class",
        dest="target",
        metavar="LABEL",
        help="of occlusion and gradient: label or index of the class (default: the likeliest of the first "
        "model)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=STEPS,
        metavar="N",
        help="of occlusion: along the shorter side; N squared runs (default: %(default)s)",
    )
    parser.add_argument(
        "--top", type=int, default=3, metavar="K", help="answers below each map (default: %(default)s)"
    )
    arguments.add_formats(parser)
    arguments.add_session(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge explain`."""
    check_file("--out", args.out)
    shown: list[Shown] = []
    target = args.target
    for name, path, model in _models(args):
        explain = _kind(args.method)(path, model, args.provider, args.threads, args.limits)
        found = explain(args.image, args.method, target, args.top, args.steps)
        shown.append(Shown(name, found))
        target = found.index  # of both models the same class, or their maps would not compare
        about = "" if found.target is None else f" of {one_line(found.target)}"
        likeliest = ", ".join(f"{each.label} {100 * each.score:.1f} %" for each in found.predictions)
        print(f"{name}: {args.method}{about}; {one_line(likeliest)}")
    if len(shown) == 2:
        print(_likeness(shown[0], shown[1]))
    stream = io.BytesIO()
    draw(shown).save(stream, "PNG")
    write_bytes("--out", args.out, stream.getvalue())
    return 0


def _likeness(one: Shown, other: Shown) -> str:
    first, second = one.explanation.heat, other.explanation.heat
    if first.shape != second.shape:
        raise UsageError(f"{one.name} and {other.name} see images of different sizes: explain them apart")
    found = correlation(first, second)
    return f"correlation of both maps: {'none, one is flat' if found is None else f'{found:.4f}'}"


def _kind(method: str) -> type[Explainer]:
    if method != Method.GRADIENT.value:
        return Explainer
    from vit_edge.host.explain.gradient import GradientExplainer

    return GradientExplainer


def _models(args: argparse.Namespace) -> list[tuple[str, Path, str | None]]:
    """What each map is called, and the model file: path, and name in a bundle."""
    is_folder = args.model.is_dir() and is_bundle(args.model)
    if args.against is not None:
        return [(each.name, each, None) for each in (args.model, args.against)]
    if not is_folder:
        return [(args.model.name, args.model, None)]
    bundle = read_bundle(args.model)
    float_name = next(iter(bundle.with_role(Role.FLOAT)), bundle.manifest.default_model)
    integers = bundle.with_role(Role.QUANTIZED) or bundle.with_role(Role.LOWERED)
    if args.method == Method.GRADIENT.value or not integers:  # of integers there are no gradients
        return [(float_name, args.model, float_name)]
    quantized = read_quantized(args.model).path.relative_to(args.model).as_posix()
    return [(name, args.model, name) for name in (float_name, quantized)]
