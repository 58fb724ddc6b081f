"""`inspect`: what a source, an ONNX file or a bundle is."""

import argparse
import json
from pathlib import Path

from vit_edge.bundle import is_bundle, verify_bundle
from vit_edge.cli import arguments
from vit_edge.cli.build import summary
from vit_edge.cli.console import one_line, pairs, table
from vit_edge.cli.merging_option import merging_lines
from vit_edge.cli.parser import Commands, settings_from
from vit_edge.errors import VitEdgeError
from vit_edge.runtime.model.own_kernels import told
from vit_edge.spec import KERNELS_DOMAIN, PreprocessSpec

_LABELS_SHOWN = 5


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("inspect", help="what a source, an ONNX file or a bundle is")
    parser.add_argument("what", metavar="SOURCE|MODEL|BUNDLE")
    arguments.add_source(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge inspect`."""
    path = Path(args.what)
    if path.is_dir() and is_bundle(path):
        _bundle(path)
    elif path.suffix == ".onnx":
        _onnx(path, args)
    else:
        _source(args)
    return 0


def _bundle(path: Path) -> None:
    bundle = verify_bundle(path)
    manifest = bundle.manifest
    files = [["file", "role", "bytes", "SHA-256"]]
    files += [[name, f.role.value, str(f.size), f.sha256] for name, f in sorted(manifest.files.items())]
    accuracy, recipe = manifest.accuracy, manifest.quantization
    verdict = "nothing was measured" if accuracy is None else accuracy.report.verdict.value
    rows = [
        ("bundle", f"format {manifest.format_version}, every file has the recorded SHA-256"),
        ("source", f"{manifest.source.name} ({manifest.source.sha256})"),
        *(("note", note) for note in manifest.source.notes),
        ("runs by default", manifest.default_model),
        ("answers", manifest.output.value),
        ("preprocessing", _recipe(manifest.preprocess)),
        *(("merging", each) for each in merging_lines(None if recipe is None else recipe.merging)),
        ("source -> float", str(manifest.source_parity)),
        ("verdict", verdict),
        *(("finding", str(finding)) for finding in manifest.findings),
        (
            "providers",
            ", ".join(f"{name} {share:.0%}" for name, share in manifest.providers.items()) or "unknown",
        ),
        ("made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())),
        *_known(manifest.source.sha256, *(entry.sha256 for entry in manifest.files.values())),
    ]
    print(pairs(rows))
    print(table(files))
    if manifest.latency:
        print(summary(manifest))
    if manifest.layers:
        kept = [["layer", "form", "reason"]]
        kept += [[layer.name, layer.form, layer.reason] for layer in manifest.layers]
        print(table(kept))


def _onnx(path: Path, args: argparse.Namespace) -> None:
    from vit_edge.host.convert.inspect import inspect_onnx

    found = inspect_onnx(path)
    metadata = found.metadata
    rows = [
        ("made by", found.producer),
        (
            "format",
            f"IR {found.ir_version}, " + ", ".join(f"{name} {version}" for name, version in found.opsets),
        ),
        ("onnxruntime", found.onnxruntime),
        *([("operators from", told())] if KERNELS_DOMAIN in dict(found.opsets) else []),
        ("inputs", "; ".join(found.inputs)),
        ("outputs", "; ".join(found.outputs)),
        ("stored values", f"{found.stored_values:,}"),
        ("operators", ", ".join(f"{count} {name}" for name, count in found.operators)),
        ("labels", "none stated" if metadata.labels is None else _shortened(metadata.labels)),
        ("preprocessing", "none stated" if metadata.preprocess is None else _recipe(metadata.preprocess)),
        (
            "source",
            "not stated" if metadata.source is None else f"{metadata.source[0]} ({metadata.source[1]})",
        ),
        (
            "session options",
            json.dumps(dict(metadata.session_options)) if metadata.session_options else "none",
        ),
        *(
            [("merges", f"{metadata.merged_tokens} tokens in each block, so that its answers are its own")]
            if metadata.merged_tokens
            else []
        ),
        *_known(
            found.sha256,
            *(() if metadata.source is None or metadata.merged_tokens else metadata.source[1:]),
        ),
        *_as_source(args),
    ]
    print(pairs(rows))
    if found.description is not None:
        print(f"canonical ViT: {json.dumps(found.description.to_json())}")
    else:
        print(f"no canonical ViT: {one_line(found.refusal or '')}")
    if found.outcomes:
        rules = [["rule", "fired", "declined because"]]
        rules += [[o.rule, str(o.fired), "; ".join(o.declined[:3])] for o in found.outcomes]
        print(table(rules))


def _as_source(args: argparse.Namespace) -> list[tuple[str, str]]:
    """What `build` would make of an ONNX file, or why it would not take it."""
    from vit_edge.host.sources import SourceOptions, resolve

    try:
        source = resolve(args.what, settings_from(args, SourceOptions))
    except VitEdgeError as error:
        return [("as a source", one_line(str(error)))]
    return [("answers", source.output.value), *(("note", note) for note in source.notes)]


def _source(args: argparse.Namespace) -> None:
    from vit_edge.host.sources import SourceOptions, resolve

    source = resolve(args.what, settings_from(args, SourceOptions))
    rows = [
        ("source", f"{source.name} ({source.kind.value})"),
        ("SHA-256", source.sha256),
        ("labels", _shortened(source.labels)),
        ("answers", source.output.value),
        ("preprocessing", _recipe(source.preprocess)),
    ]
    rows += [("note", note) for note in source.notes]
    if source.config is not None:
        config = source.config
        rows.append(
            (
                "model",
                f"{config.depth} layers, width {config.dim}, {config.heads} heads, MLP {config.mlp_dim}, "
                f"patches of {config.patch_size[0]}x{config.patch_size[1]}, {config.tokens} tokens, "
                f"{config.num_classes} classes",
            )
        )
    print(pairs([*rows, *_known(source.sha256)]))


def _known(*sha256s: str) -> list[tuple[str, str]]:
    """Figures that were measured before of a model with one of these hashes."""
    from vit_edge.catalogue import find

    model = find(sha256s)
    if model is None:
        return []
    figures = [("measured" if each.itself else "same source", each.told) for each in model.figures(sha256s)]
    return [("known as", f"{model.name} ({model.licence})"), *figures]


def _recipe(spec: PreprocessSpec) -> str:
    return json.dumps(spec.to_json())


def _shortened(labels: tuple[str, ...]) -> str:
    if not labels:
        return "none, as it gives embeddings"
    rest = ", ..." if len(labels) > _LABELS_SHOWN else ""
    return f"{len(labels)}: {', '.join(labels[:_LABELS_SHOWN])}{rest}"
