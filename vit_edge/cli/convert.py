"""`export`, `optimize` and `quantize`: one model file in, one out."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from vit_edge.cli import arguments
from vit_edge.cli.checks import check_out, few_images
from vit_edge.cli.console import one_line, progress, tell_notes
from vit_edge.cli.embedding_options import add_embedder, check_taps, outputs_used
from vit_edge.cli.merging_option import add_merging, check_alone, tell_merging
from vit_edge.cli.parser import Commands, Parser, settings_from
from vit_edge.cli.spread_option import spread_of
from vit_edge.cli.targets import target_named
from vit_edge.embedding_report import Fidelity
from vit_edge.errors import UsageError
from vit_edge.manifest import Method
from vit_edge.spec import InputForm, ModelForm, VersionsWanted
from vit_edge.verify.words import decibel

_EMBEDDER = "write the embedder: class token, mean and grid of the patch tokens in place of logits"


def add(commands: Commands) -> None:
    """Declare the three commands."""
    export = commands.add_parser("export", help="a source as one ONNX file, as it is")
    export.add_argument("source", metavar="SOURCE")
    _add_out(export)
    export.add_argument("--batch", type=int, metavar="N", help="fixed batch size (default: dynamic)")
    add_embedder(export, _EMBEDDER, quantized=False)
    _add_attention(export)
    add_merging(export, "`vit-edge compare` says what it costs")
    arguments.add_versions(export)
    arguments.add_source(export)
    export.set_defaults(run=run_export)

    optimize = commands.add_parser(
        "optimize", help="an ONNX file rewritten to the canonical ViT graph, lossless"
    )
    optimize.add_argument("model", metavar="IN.onnx", type=Path)
    _add_out(optimize)
    optimize.add_argument("--batch", type=int, metavar="N", help="fixed batch size (default: dynamic)")
    optimize.add_argument(
        "--input",
        choices=[form.value for form in InputForm],
        default="pixel_values",
        help="what the model takes",
    )
    optimize.add_argument(
        "--calib", type=Path, metavar="DIR", help="check parity on images of this folder, too"
    )
    arguments.add_versions(optimize)
    arguments.add_formats(optimize)
    arguments.add_source(optimize)
    arguments.add_uncanonical(optimize)
    optimize.set_defaults(run=run_optimize)

    quantize = commands.add_parser("quantize", help="a source or ONNX file as one INT8 ONNX file")
    quantize.add_argument("source", metavar="IN.onnx")
    _add_out(quantize)
    arguments.add_quantize(quantize)
    add_embedder(quantize, _EMBEDDER)
    _add_attention(quantize)
    add_merging(quantize, "`vit-edge compare` says what it costs")
    quantize.add_argument(
        "--target",
        default="cpu",
        metavar="NAME",
        help="one of `vit-edge targets`, a .toml file, or auto (default: cpu)",
    )
    arguments.add_versions(quantize)
    arguments.add_source(quantize)
    arguments.add_uncanonical(quantize)
    quantize.set_defaults(run=run_quantize)


def run_export(args: argparse.Namespace) -> int:
    """`vit-edge export`."""
    _check_one_kind(args)
    check_out(args.out)
    from vit_edge.host.convert.one_file import export_model, export_with_attention
    from vit_edge.host.sources import SourceOptions, resolve

    versions = settings_from(args, VersionsWanted)
    source = resolve(args.source, settings_from(args, SourceOptions))
    if args.embedder:
        from vit_edge.host.embedder.files import export_embedder

        made = export_embedder(source, args.out, args.batch, versions, args.taps)
        print(f"the classifier's head makes the same logits of it: {made.written.parity}")
        _print_outputs(made.outputs, {})
        return _done(made.written.path, made.written.size)
    if args.merge_tokens:
        from vit_edge.host.convert.merging import export_merged

        written = export_merged(source, args.out, args.merge_tokens, args.batch, versions)
    else:
        write = export_with_attention if args.attention else export_model
        written = write(source, args.out, args.batch, versions)
    tell_notes(source.notes)
    if written.parity is not None:
        reference = "torch" if source.onnx_path is None else "the file"
        reference = "the export" if args.attention else reference
        reference = "the export as long as no tokens merge" if args.merge_tokens else reference
        print(f"same as {reference}: {written.parity}")
    tell_merging(written.canonical)
    return _done(written.path, written.size)


def run_optimize(args: argparse.Namespace) -> int:
    """`vit-edge optimize`."""
    check_out(args.out)
    from vit_edge.host.convert.one_file import OptimizeSettings, optimize_model
    from vit_edge.host.sources import SourceOptions

    settings = OptimizeSettings(
        form=ModelForm(args.batch, InputForm(args.input)).at(settings_from(args, VersionsWanted)),
        options=settings_from(args, SourceOptions),
        images=args.calib,
        limits=args.limits,
        allow_uncanonical=args.allow_uncanonical,
    )
    written = optimize_model(args.model, args.out, settings)
    canonical = written.canonical
    if canonical is not None and canonical.refusal is not None:
        print(f"note: {one_line(canonical.refusal)}; written as it is")
    elif canonical is not None and canonical.description is not None:
        found = canonical.description
        print(
            f"canonical ViT: {found.depth} layers, width {found.width}, {found.tokens} tokens, "
            f"pools {found.pooling}"
        )
    print(f"same as the original: {written.parity}")
    return _done(written.path, written.size)


def run_quantize(args: argparse.Namespace) -> int:
    """`vit-edge quantize`."""
    _check_one_kind(args)
    used = outputs_used(args)
    check_out(args.out)
    target, spread = target_named(args.target), spread_of(args)
    from vit_edge.host.convert.one_file import QuantizeFileSettings, quantize_model
    from vit_edge.host.quantize.types import Preset, QuantizeSettings
    from vit_edge.host.sources import SourceOptions, resolve

    settings = QuantizeFileSettings(
        calibration=args.calibration,
        target=target,
        quantize=settings_from(args, QuantizeSettings, preset=Preset(args.preset), spread=spread),
        versions=settings_from(args, VersionsWanted),
        allow_uncanonical=args.allow_uncanonical,
        attention=args.attention,
        merge_tokens=args.merge_tokens,
        taps=args.taps,
    )
    source = resolve(args.source, settings_from(args, SourceOptions))
    if source.onnx_path is not None and Path(args.out).resolve() == source.onnx_path.resolve():
        raise UsageError(f"{args.out} is the model to quantize: name another file to write")
    with progress(args.quiet) as tell:
        if args.embedder:
            from vit_edge.host.embedder.files import quantize_embedder_file

            made = quantize_embedder_file(source, args.out, settings, tell, used)
            written, outputs, fidelity = made.written, made.outputs, made.fidelity
        else:
            written, outputs, fidelity = quantize_model(source, args.out, settings, tell), {}, {}
    tell_notes([*source.notes, *few_images(args.calibration, args.images, args.limits)])
    if written.quantization is not None:
        if not args.quiet:
            for layer in written.quantization.layers:
                print(f"{layer.name}: {layer.form.value} ({one_line(layer.reason)})")
        tell_merging(written.canonical)
        if not args.embedder:
            print(reached(written.quantization.recipe))
    _print_outputs(outputs, fidelity)
    return _done(written.path, written.size)


def reached(recipe: Method) -> str:
    """How close the logits are to those of the float model, on images that calibration saw as well."""
    aimed = "" if recipe.target_db is None else f", aimed at {decibel(recipe.target_db)}"
    return (
        f"logit SQNR {decibel(recipe.probe_db)} on {recipe.probe_images} calibration images{aimed}; "
        "`vit-edge compare` says what it costs on others"
    )


def _add_attention(parser: Parser) -> None:
    parser.add_argument(
        "--attention",
        action="store_true",
        help="the attention of each block is among the outputs, for `vit-edge explain`",
    )


def _check_one_kind(args: argparse.Namespace) -> None:
    check_alone(args)
    check_taps(args)
    if args.embedder and args.attention:
        raise UsageError("--embedder and --attention make different files: give one of them")


def _print_outputs(outputs: Mapping[str, tuple[int | None, ...]], fidelity: Mapping[str, Fidelity]) -> None:
    """The outputs of an embedder, and how close they are to those of the float model where that is known."""
    for name, shape in outputs.items():
        found = fidelity.get(name)
        close = (
            ""
            if found is None
            else (
                f": cosine to float32 {found.cosine:.4f} on average, {found.least_cosine:.4f} at least, "
                f"{decibel(found.sqnr_db)}"
            )
        )
        print(f"{name} (N, {', '.join(map(str, shape))}){close}")


def _add_out(parser: Parser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.onnx")


def _done(path: Path, size: int) -> int:
    print(f"{path}: {size / 1e6:.2f} MB")
    return 0
