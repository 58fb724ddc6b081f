"""`doctor`: which of the known pitfalls does this model, or its preprocessing, have?"""

import argparse
import importlib.util
from pathlib import Path

from vit_edge.bundle import Role, is_bundle
from vit_edge.cli import arguments
from vit_edge.cli.console import check_json, one_line, progress, write_json
from vit_edge.cli.parser import Commands, session_settings, settings_from
from vit_edge.diagnosis import Diagnosis
from vit_edge.errors import UsageError
from vit_edge.progress import Step, step_of
from vit_edge.runtime.doctor.examine import DoctorSettings, examine
from vit_edge.runtime.evaluate.dataset import ImageSet, read_images
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.evaluate.stated import with_stated
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.spec import OutputKind
from vit_edge.stated import StatedPreprocess

_NEEDED = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors")
IMAGES = 200  # by default


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "doctor", help="look for the known pitfalls of a model and its preprocessing on your images"
    )
    parser.add_argument("what", metavar="SOURCE|BUNDLE", help="a bundle, an ONNX file, or what `build` takes")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images, best with labels")
    arguments.add_class_ids(parser)
    parser.add_argument(
        "--limit",
        type=int,
        default=IMAGES,
        metavar="N",
        help="use at most N images, spread evenly; each is run some thirty times (default: %(default)s)",
    )
    arguments.add_expected(parser)
    arguments.add_formats(parser)
    arguments.add_session(parser)
    arguments.add_source(parser)
    arguments.add_json(parser, "findings, what is clear and what was not checked")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge doctor`; 0 where nothing is wrong, 1 where a finding is an error."""
    check_json(args.json)
    settings = settings_from(args, DoctorSettings, session=session_settings(args))
    path = Path(args.what)
    with progress(args.quiet) as tell:
        step = step_of(tell, "doctor")
        if (path.is_dir() and is_bundle(path)) or path.suffix == ".onnx":
            found = _of_file(args, path, settings, step)
        else:
            found = _of_source(args, settings, step)
    write_json(args.json, found.to_json())
    print(summary(found))
    return 0 if found.sound else 1


def summary(found: Diagnosis) -> str:
    """A line per finding, then what is clear and what was not checked."""
    labelled = "labelled" if found.labelled else "unlabelled"
    lines = [one_line(str(each)) for each in found.findings]
    lines.append(f"clear: {', '.join(code.value for code in found.clear) or 'nothing'}")
    lines += [one_line(f"not checked {each.code.value}: {each.reason}") for each in found.not_checked]
    lines.append(
        f"{found.model}: {len(found.findings)} findings on {found.images} {labelled} images; {found.tests} "
        f"significance tests, of which any errs with a chance of at most {100 * found.error:g} % (Holm)"
    )
    return "\n".join(lines)


def _of_file(args: argparse.Namespace, path: Path, settings: DoctorSettings, step: Step) -> Diagnosis:
    wanted = OutputWanted(args.output, args.output_kind)
    model = read_model(path, Role.FLOAT if path.is_dir() else None, wanted)
    stated = settings_from(args, StatedPreprocess)
    if model.preprocess is None or stated.says_something:
        model = with_stated((model, model), stated)[0]
    images = _images(args, model.labels, model.output)
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        return examine(model, images, settings, progress=step)
    from vit_edge.host.doctor.examine import diagnose_file

    return diagnose_file(model, images, settings, step)


def _of_source(args: argparse.Namespace, settings: DoctorSettings, step: Step) -> Diagnosis:
    from vit_edge.host.doctor.examine import diagnose_source
    from vit_edge.host.sources import SourceOptions, resolve

    options = settings_from(args, SourceOptions)
    source = resolve(args.what, options)
    images = _images(args, source.labels, source.output)
    return diagnose_source(source, options, args.what, images, settings, step)


def _images(args: argparse.Namespace, labels: tuple[str, ...] | None, kind: OutputKind) -> ImageSet:
    if kind.task is OutputKind.EMBEDDING:
        raise UsageError(f"{args.what} gives embeddings: doctor looks at answers; judge it with compare")
    if args.limit < 1:
        raise UsageError(f"--limit must be at least 1, got {args.limit}")
    ids = None if args.class_ids is None else read_class_ids(args.class_ids)
    return read_images(args.data, labels, ids, args.limits, kind).limited(args.limit)
