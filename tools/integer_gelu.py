"""What GELU of codes, x * sigmoid(1.702 x) as QLinearSigmoid and QLinearMul compute it, costs an INT8 file.

Usage: python -m tools.integer_gelu INT8.onnx --float FLOAT.onnx --calib DIR --data DIR -o results.json

Each GELU whose codes one product reads gets codes in front of it, too, in the range that leaves the least
error behind it on the calibration images, and becomes a sigmoid of codes times the codes. Told are the signal
to noise ratio of those codes, with exact GELU and so, for each GELU, and that of the logits on other images:
with one GELU so, and with as many as stay loudest, until all are. Both files are of `vit-edge build`.

Exit status: 0 measured, 2 bad input.
"""

import argparse
import dataclasses
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from scipy.special import erf, expit

from tools.parts import STEEPNESS
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.host.affine import Affine
from vit_edge.host.ort import cpu_session
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings, feed_of
from vit_edge.verify.metrics import agreement, logit_sqnr_db

ONE = SessionSettings("cpu", threads=1)
GATE = Affine(1 / 255)
SHARES = (
    1.0,
    0.9,
    0.8,
    0.7,
    0.6,
    0.45,
    0.3,
)  # of the largest and of the smallest value that a range may hold
MOST_VALUES = 200_000

Values = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Found:
    """One GELU: the codes behind it, and those that it would get in front."""

    name: str
    behind: Affine
    before: Affine
    exact_db: float
    """Of the codes behind exact GELU, on the calibration images."""
    codes_db: float
    """Of those behind the sigmoid of codes."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        result = measured(given)
        write_json(given.output, result)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for row in result["logits"]:
        print(f"{row['gelus']:40s} {row['sqnr_db']:6.2f} dB {row['agreement']:6.2f} %")
    return 0


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All figures of one file."""
    whole, file = read_model(given.float), read_model(given.file)
    model = onnx.load_from_string(file.data)
    gelus = gelus_of(model)
    if not gelus:
        raise UsageError(f"{given.file} has no GELU in floating point with codes behind it")
    seen = inner(file, model, gelus, images_of(given.calib, file, given.calib_count))
    found = [of_range(name, behind, values) for (name, behind), values in zip(gelus, seen, strict=True)]
    pixels = images_of(given.data, file, given.count)
    truth = logits(whole, pixels)

    def row(told: str, chosen: Collection[str]) -> dict[str, Any]:
        changed = with_codes(model, [each for each in found if each.name in chosen])
        made = logits(dataclasses.replace(file, data=changed.SerializeToString()), pixels)
        db, same = logit_sqnr_db(truth, made), agreement(truth, made)
        return {"gelus": told, "sqnr_db": db, "agreement": same}

    alone = [row(each.name, [each.name]) for each in found]
    quiet = sorted(alone, key=lambda each: -each["sqnr_db"])
    several = [
        row(f"the {count} quietest", [each["gelus"] for each in quiet[:count]])
        for count in sorted({2, 4, len(found) // 2, len(found)})
        if 1 < count <= len(found)
    ]
    return {
        "machine": describe_machine().to_json(),
        "file": {"name": given.file.name, "sha256": file.sha256},
        "images": len(pixels),
        "gelus": [{"name": f.name, "exact_db": f.exact_db, "codes_db": f.codes_db} for f in found],
        "logits": [row("none", ()), *alone, *several],
    }


def gelus_of(model: onnx.ModelProto) -> list[tuple[str, Affine]]:
    """Each GELU in floating point that one QuantizeLinear reads, and its codes; outlier branches left out."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        readers = [other for other in model.graph.node if node.output[0] in other.input]
        if node.op_type != "Gelu" or [reader.op_type for reader in readers] != ["QuantizeLinear"]:
            continue
        scale, zero = (numpy_helper.to_array(constants[name]) for name in readers[0].input[1:])
        if zero.dtype == np.uint8:
            found.append((str(node.name), Affine(float(scale), int(zero))))
    return found


def inner(
    file: ModelFile, model: onnx.ModelProto, gelus: Sequence[tuple[str, Affine]], pixels: Pixels
) -> list[Values]:
    """What goes into each GELU, a sample of all images' values."""
    names = {node.name: node.input[0] for node in model.graph.node}
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    wanted = [names[name] for name, _ in gelus]
    asked.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted
    )
    session = cpu_session(asked.SerializeToString(), file.session_options, threads=1)
    feeds = [feed_of(file, pixels[i : i + 1], file.preprocess) for i in range(len(pixels))]
    rows = [session.run(wanted, feed) for feed in feeds]
    random = np.random.default_rng(0)
    return [sample(np.concatenate([row[k].ravel() for row in rows]), random) for k in range(len(wanted))]


def sample(values: npt.NDArray[np.float32], random: np.random.Generator) -> Values:
    """At most MOST_VALUES of them, each as likely as any other."""
    few = random.choice(values, MOST_VALUES, replace=False) if values.size > MOST_VALUES else values
    return few.astype(np.float64)


def of_range(name: str, behind: Affine, values: Values) -> Found:
    """The range in front of a GELU that leaves the least error behind it."""
    exact = values * (1 + erf(values / np.sqrt(2))) / 2
    ranges = [Affine.of(values.min() * low, values.max() * high) for low in SHARES for high in SHARES]
    ratios = [decibels(exact, in_codes(values, before, behind)) for before in ranges]
    best = int(np.argmax(ratios))
    direct = decibels(exact, behind.values(behind.codes(exact)))
    return Found(name, behind, ranges[best], direct, ratios[best])


def in_codes(values: Values, before: Affine, behind: Affine) -> Values:
    """The product x * sigmoid(1.702 x) with codes in front of it, behind the sigmoid and behind itself."""
    coded = before.values(before.codes(values))
    gate = GATE.values(GATE.codes(expit(STEEPNESS * coded)))
    return np.asarray(behind.values(behind.codes(coded * gate)))


def decibels(exact: Values, made: Values) -> float:
    """Signal to noise of values (count,), as that of logits is."""
    return logit_sqnr_db(exact[None], made[None])


def with_codes(model: onnx.ModelProto, chosen: Sequence[Found]) -> onnx.ModelProto:
    """The model with these GELUs of codes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    by_name, nodes = {each.name: each for each in chosen}, []
    for node in changed.graph.node:
        if node.name not in by_name:
            nodes.append(node)
            continue
        made, constants = _sigmoid(node, by_name[node.name].before)
        nodes += made
        changed.graph.initializer.extend(constants)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _sigmoid(node: onnx.NodeProto, before: Affine) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    name = f"{node.name}.integer"
    numbers = {
        "scale": np.float32(before.scale),
        "zero": np.uint8(before.zero_point),
        "steeper": np.float32(before.scale * STEEPNESS),
        "gate_scale": np.float32(GATE.scale),
        "gate_zero": np.uint8(GATE.zero_point),
    }

    def op(kind: str, inputs: Sequence[str], made: str) -> onnx.NodeProto:
        return helper.make_node(
            kind, [f"{name}.{each}" for each in inputs], [f"{name}.{made}"], f"{name}.{made}"
        )

    first, last = op("QuantizeLinear", ["given", "scale", "zero"], "codes"), op("Mul", ["x", "gate"], "made")
    first.input[0], last.output[0] = node.input[0], node.output[0]
    nodes = [
        first,
        op("DequantizeLinear", ["codes", "scale", "zero"], "x"),
        op("DequantizeLinear", ["codes", "steeper", "zero"], "steep"),
        op("Sigmoid", ["steep"], "real"),
        op("QuantizeLinear", ["real", "gate_scale", "gate_zero"], "coded"),
        op("DequantizeLinear", ["coded", "gate_scale", "gate_zero"], "gate"),
        last,
    ]
    return nodes, [numpy_helper.from_array(np.asarray(v), f"{name}.{key}") for key, v in numbers.items()]


def images_of(folder: Path, file: ModelFile, count: int) -> Pixels:
    """At most so many images of a folder, as the file takes them."""
    if file.preprocess is None:
        raise UsageError(f"{file.path} does not say how images are preprocessed")
    paths = evenly(list_images(folder).paths, count)
    return np.stack([load_pixels(path, file.preprocess) for path in paths])


def logits(file: ModelFile, pixels: Pixels) -> npt.NDArray[np.float32]:
    """Of each image by itself."""
    session = Session(file, ONE)
    return np.concatenate([session.run(pixels[i : i + 1]) for i in range(len(pixels))])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="integer_gelu", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="INT8 classifier")
    parser.add_argument("--float", type=Path, required=True, help="the same model in float")
    parser.add_argument("--calib", type=Path, required=True, help="images that ranges are found on")
    parser.add_argument("--calib-count", type=int, default=16, help="at most so many of them")
    parser.add_argument("--data", type=Path, required=True, help="other images")
    parser.add_argument("--count", type=int, default=100, help="at most so many of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
