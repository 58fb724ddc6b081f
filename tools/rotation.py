"""What rotating the residual stream gives or costs a ViT whose every layer has one static 8-bit range.

Usage: python -m tools.rotation --source SOURCE --calib DIR [--cache DIR] [-o results.json]

Every LayerNormalization is brought to its form without a mean: what writes into the residual stream is
centred, what reads it takes scale and bias in (SliceGPT, Ashkboos et al. 2024). An orthogonal matrix can then
be put into the writers and its transpose into the readers, and the model computes the same (QuaRot, Ashkboos
et al. 2024): outliers are spread over all channels. Measured is the signal to noise ratio of the logits with
every layer, attention and the patch embedding in static 8-bit ranges, as preset `static` has them but for the
correction of biases, on the probe images of the calibration: as the model is, in the form without means, and
rotated by a random orthogonal matrix and by a Hadamard one with random signs; each with the outlier channels
of its MLPs in a branch of their own, and without. On ViT-Tiny a rotation loses 0.1 to 0.3 dB with outliers
apart, and changes nothing without (models/results/rotation_vit_tiny.json).

Exit status: 0 measured, 2 bad input.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import scipy.linalg

from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import ModelError, VitEdgeError
from vit_edge.host.convert.export import export
from vit_edge.host.quantize.balance import balance
from vit_edge.host.quantize.calibration import Calibration, Folded, calibrate, fold
from vit_edge.host.quantize.folds import norm_readers, set_inputs
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.rewrite.composites import DOMAIN, EMBED, LINEAR, RMS_NORM, is_composite, is_op
from vit_edge.host.rewrite.values import constant_of, linear_parts, number, static_shape, typed, users
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.spec import Arithmetic

TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")

Matrix = npt.NDArray[np.float64]


def identity(size: int) -> Matrix:
    """Nothing but the form without means."""
    return np.eye(size)


def orthogonal(size: int) -> Matrix:
    """A random rotation."""
    found, upper = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    return np.asarray(found * np.sign(np.diag(upper)))


def hadamard(size: int) -> Matrix:
    """Hadamard's matrix of the largest power of two, times a random rotation of what is left, with signs."""
    power = size & -size
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size)
    turned = np.kron(scipy.linalg.hadamard(power) / np.sqrt(power), orthogonal(size // power))
    return np.asarray(turned * signs[:, None])


ROTATIONS: dict[str, Callable[[int], Matrix] | None] = {
    "as it is": None,
    "without means": identity,
    "random orthogonal": orthogonal,
    "random Hadamard": hadamard,
}


def rotated(canonical: Canonical, turn: Callable[[int], Matrix]) -> Canonical:
    """A copy of a plain ViT whose residual stream is another, and whose logits are the same.

    Raises:
        ModelError: something else than the patch embedding and linear layers writes into the stream, or
            something else than normalizations and linear layers behind them reads it.
    """
    copy = dataclasses.replace(canonical, model=canonical.model.clone())
    graph = copy.model.graph
    norms = [node for node in graph if is_op(node, "LayerNormalization")]
    if not norms:
        raise ModelError(f"{canonical.description} has no LayerNormalization to bring to another form")
    size = (static_shape(norms[0].outputs[0]) or (0,))[-1]
    turned = turn(size)
    centred = turned - turned.mean(axis=0)
    for node in list(graph):
        if is_composite(node, EMBED):
            set_inputs(graph, node, [_constant(node, place) @ centred for place in (1, 2)])
        elif is_composite(node, LINEAR) and _writes(node):
            _, weight, bias = linear_parts(node)
            set_inputs(graph, node, [weight @ centred, *([] if bias is None else [bias @ centred])])
    for norm in norms:
        _without_mean(graph, norm, turned)
    return copy


def _writes(linear: ir.Node) -> bool:
    """Whether a layer's result is added to the residual stream, and read by nothing else."""
    readers = users(linear.outputs[0])
    return bool(readers) and all(is_op(reader, "Add") for reader in readers)


def _constant(node: ir.Node, place: int) -> Matrix:
    found = constant_of(node.inputs[place])
    if found is None:
        raise ModelError(f"{node.name} has no constant weights to rotate")
    return np.asarray(found, np.float64)


def _without_mean(graph: ir.Graph, norm: ir.Node, turned: Matrix) -> None:
    """An RmsNorm instead, whose readers turn back, and have its scale and bias."""
    readers = norm_readers(norm)
    if not readers:
        raise ModelError(f"{norm.name} is read by something else than linear layers: it cannot be rotated")
    gamma, beta = _constant(norm, 1), _constant(norm, 2)
    for linear in readers:
        _, weight, bias = linear_parts(linear)
        wide = weight.astype(np.float64)
        moved = beta @ wide + (0.0 if bias is None else bias)
        set_inputs(graph, linear, [turned.T @ (gamma[:, None] * wide), moved])
    epsilon = ir.AttrFloat32("epsilon", number(norm, "epsilon", 1e-5))
    made = ir.Node(DOMAIN, RMS_NORM, [norm.inputs[0], None], [epsilon], name=norm.name, version=1)
    typed(made.outputs[0], static_shape(norm.outputs[0]) or ())
    graph.insert_before(norm, made)
    set_inputs(graph, made, [np.ones(len(gamma))])
    for use in list(norm.outputs[0].uses()):
        use.node.replace_input_with(use.idx, made.outputs[0])
    graph.remove(norm, safe=True)


def evened(canonical: Canonical, calibration: Calibration) -> Folded:
    """As `fold`, with every channel left where it is."""
    copy, seen = dataclasses.replace(canonical, model=canonical.model.clone()), dict(calibration.seen)
    balanced = balance(copy.model.graph, seen)
    known = dataclasses.replace(calibration, seen=seen)
    return Folded(copy, known, tuple(balanced.folds), (), balanced.frames)


def static_db(folded: Folded, settings: QuantizeSettings) -> float:
    """Logits with every layer in one static range."""
    search = Search(folded, plan_set(folded, settings.arithmetics), settings)
    plans = search.plans
    return decibels(
        search.noise(dict.fromkeys([*plans.linears, *plans.attentions, *plans.convs], Form.STATIC))
    )


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Every rotation, with and without outliers apart."""
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    canonical = canonicalise(export(source)[0], source.name)
    settings = QuantizeSettings(Preset.STATIC, cache=given.cache, arithmetics=(Arithmetic.EXACT,))
    paths = list_images(given.calib).paths
    rows: list[dict[str, Any]] = []
    shared = {
        "model": source.name,
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
    }
    for name, turn in ROTATIONS.items():
        model = canonical if turn is None else rotated(canonical, turn)
        found = calibrate(model, paths, source.preprocess, settings)
        apart = fold(model, found)
        rows.append(
            {
                "residual_stream": name,
                "static_db": round(static_db(apart, settings), 2),
                "channels_apart": sum(len(each.channels) for each in apart.outliers),
                "static_db_nothing_apart": round(static_db(evened(model, found), settings), 2),
                "probe_images": len(found.probed),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
        write_json(given.output, {**shared, "rows": rows})
    return {**shared, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        rows = measure(given)["rows"]
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| residual stream | static | with no channel apart |\n|---|---|---|")
    for row in rows:
        told = row["static_db"], row["static_db_nothing_apart"]
        print(f"| {row['residual_stream']} | {told[0]:.1f} dB | {told[1]:.1f} dB |")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what rotating the residual stream gives.")
    parser.add_argument("--source", required=True, help="as for vit-edge build")
    parser.add_argument("--crop-pct", type=float, help="where the source does not say so")
    parser.add_argument("--calib", type=Path, required=True, metavar="DIR", help="calibration images")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps the calibrations")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
