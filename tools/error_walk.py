"""Walks through a model file, tensor by tensor, and tells where another provider departs from the CPU.

Usage: python -m tools.error_walk MODEL.onnx --provider qnn --data DIR [--count N] [-o walk.json]

The same file runs twice, on onnxruntime's CPU kernels and on the provider, with every inner activation as a
further output (of a quantized one what its integers stand for). Of each tensor, in the order of the graph,
the signal to noise ratio between the two is given, over all values and of the median row (token), and the
latter of the worst input of the operator that made it: error that came in is not an operator's own. The
operators with the deepest falls (`--alone`) are then run by themselves on the provider, with the CPU's
inputs, which says what each adds where nothing came in. Images are taken evenly from the folder; the
simulators that vendors bring along take seconds for each.

Exit status: 0 the walk was made, 2 bad input.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from tools.told import told
from tools.walk_graph import Tensor, alone, shown, tensors_of
from vit_edge.errors import ModelError, ProviderError
from vit_edge.host.convert.onnx_io import read_onnx
from vit_edge.host.ort import cpu_session
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.providers import CPU, cause, devices_of, find_provider, known_providers
from vit_edge.runtime.session.session import feed_of

_LOG_FATAL = 4  # onnxruntime's severity: what a compiler refuses comes as an exception
TOOLS = ("vit-edge", "onnxruntime", "onnxruntime-qnn", "numpy")

Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Stop:
    """What the walk found at one tensor; ratios in dB, infinite where there is no difference."""

    tensor: str
    operator: str
    """Type of the node that makes it."""
    sqnr_db: float
    """Of the provider's values against the CPU's, over all images."""
    row_db: float
    """Of the median row, which is a token: what a LayerNormalization makes of each counts alike."""
    inputs_db: float
    """The smallest `row_db` of the tensors that it was made from."""
    reach: float
    """The largest magnitude on the CPU."""

    @property
    def fall_db(self) -> float:
        """How far its median row lies below its inputs'; no difference counts as 120 dB."""
        return min(self.inputs_db, 120.0) - min(self.row_db, 120.0)


@dataclasses.dataclass(frozen=True)
class Alone:
    """What one operator does by itself, given the CPU's inputs."""

    tensor: str
    operator: str
    sqnr_db: float
    row_db: float
    """Of the median row."""


class Noise:
    """Sums over images of what it takes for one ratio."""

    def __init__(self) -> None:
        self.signal, self.noise, self.reach = 0.0, 0.0, 0.0
        self.rows: list[Floats64] = []  # noise over signal of each row of each image

    def add(self, exact: Floats, made: Floats) -> None:
        """Count another image."""
        wide = exact.astype(np.float64)
        signal, noise = np.square(wide), np.square(made.astype(np.float64) - wide)
        self.signal += float(signal.sum())
        self.noise += float(noise.sum())
        if wide.ndim:
            total = signal.sum(-1)
            self.rows.append((noise.sum(-1)[total > 0.0] / total[total > 0.0]).ravel())
        self.reach = max(self.reach, float(np.abs(wide).max(initial=0.0)))

    @property
    def decibels(self) -> float:
        """Signal over noise."""
        return _decibels_of(self.noise / max(self.signal, 1e-300))

    @property
    def row_decibels(self) -> float:
        """The same of the median row that is not zero: a token of huge values weighs like any other."""
        rows = np.concatenate(self.rows) if self.rows else np.empty(0)
        return _decibels_of(float(np.median(rows))) if rows.size else self.decibels


def _decibels_of(ratio: float) -> float:
    return float(-10.0 * np.log10(ratio)) if ratio > 0.0 else float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    return told(lambda: walk(given), given.output, _table)


def walk(given: argparse.Namespace) -> dict[str, Any]:
    """Run both, compare every tensor, and try the worst operators by themselves."""
    model = read_onnx(given.model)
    tensors = tensors_of(model)
    if not tensors:
        raise ModelError(f"{given.model} has no inner activation to compare; give a ViT's model file")
    paths = list_images(given.data).paths
    paths = evenly(paths, given.count)
    opened = read_model(given.model)
    if opened.preprocess is None:
        raise ModelError(f"{given.model} does not say how images are prepared; export it with vit-edge")
    feeds = [feed_of(opened, load_pixels(path, opened.preprocess)[None], opened.preprocess) for path in paths]
    data = shown(model, tensors).SerializeToString()
    stops, kept = compared(tensors, cpu_session(data), _session(data, given), feeds)
    deepest = sorted(stops, key=lambda stop: -stop.fall_db)[: given.alone]
    by_name = {tensor.name: tensor for tensor in tensors}
    tried = [by_itself(model, by_name[stop.tensor], kept, given) for stop in deepest]
    return {
        "model": given.model.name,
        "provider": given.provider,
        "images": len(paths),
        "tensors": [_rounded(stop) for stop in stops],
        "deepest_falls": [
            {"tensor": stop.tensor, "operator": stop.operator, "fall_db": round(stop.fall_db, 1)}
            for stop in deepest
        ],
        "alone": [_rounded(each) for each in tried if each is not None],
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
    }


def compared(
    tensors: Sequence[Tensor],
    exact: onnxruntime.InferenceSession,
    made: onnxruntime.InferenceSession,
    feeds: Sequence[Mapping[str, npt.NDArray[np.generic]]],
) -> tuple[list[Stop], dict[str, Floats]]:
    """Each tensor's ratio over all images, and the CPU's values of the last image by the tensors' names."""
    names = [tensor.shown for tensor in tensors]
    noises = [Noise() for _ in tensors]
    kept: dict[str, Floats] = {}
    for done, feed in enumerate(feeds, 1):
        right, other = exact.run(names, feed), made.run(names, feed)
        for noise, one, two in zip(noises, right, other, strict=True):
            noise.add(one, two)
        kept = {tensor.name: values for tensor, values in zip(tensors, right, strict=True)}
        print(f"image {done} of {len(feeds)}", file=sys.stderr, flush=True)
    found = {tensor.name: noise for tensor, noise in zip(tensors, noises, strict=True)}
    stops = [
        Stop(
            tensor.name,
            tensor.operator,
            found[tensor.name].decibels,
            found[tensor.name].row_decibels,
            min((found[name].row_decibels for name in tensor.inputs), default=float("inf")),
            found[tensor.name].reach,
        )
        for tensor in tensors
    ]
    return stops, kept


def by_itself(
    model: onnx.ModelProto, tensor: Tensor, values: Mapping[str, Floats], given: argparse.Namespace
) -> Alone | None:
    """One operator on the provider against the CPU, with the CPU's inputs; None where it takes the image.

    Raises:
        ProviderError: the provider is not installed.
        ModelError: it does not take the operator alone.
    """
    cut = alone(model, tensor)
    if cut is None:
        return None
    data, noise = cut[0].SerializeToString(), Noise()
    feed = {name: values[name] for name in cut[1]}
    try:
        made = _session(data, given).run(None, feed)[0]
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ModelError(f"{given.provider} fails on {tensor.name} alone ({cause(error)})") from error
    noise.add(np.asarray(cpu_session(data).run(None, feed)[0]), np.asarray(made))
    return Alone(tensor.name, tensor.operator, noise.decibels, noise.row_decibels)


def _session(data: bytes, given: argparse.Namespace) -> onnxruntime.InferenceSession:
    """A session on the provider that was asked for.

    Raises:
        ProviderError: it is not installed, or does not take the model.
    """
    name = str(given.provider)
    provider, spec = find_provider(name), known_providers().get(name)
    devices = devices_of(provider, spec.devices if spec else ())[:1]
    chosen = dict(spec.options) if spec else {}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    if not given.fallback and provider != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        if not devices:
            return onnxruntime.InferenceSession(data, options, providers=[(provider, chosen)])
        options.add_provider_for_devices(devices, chosen)
        return onnxruntime.InferenceSession(data, options)
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ProviderError(f"{name} cannot load the file with its inner tensors ({cause(error)})") from error


def _rounded(found: Stop | Alone) -> dict[str, Any]:
    """As JSON, which knows no infinity: no difference is null."""
    return {
        key: (round(value, 2) if np.isfinite(value) else None) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(found).items()
    }


def _table(result: Mapping[str, Any]) -> str:
    lines = ["| tensor | operator | dB | median row | inputs | largest value |", "|---|---|---|---|---|---|"]
    for row in result["tensors"]:
        found = [_decibels(row[key]) for key in ("sqnr_db", "row_db", "inputs_db")]
        lines.append(f"| {row['tensor']} | {row['operator']} | {' | '.join(found)} | {row['reach']:g} |")
    lines += [
        f"deepest fall: {each['tensor']}, {each['operator']}, {each['fall_db']} dB"
        for each in result["deepest_falls"]
    ]
    lines += [
        f"alone: {each['tensor']}, {each['operator']}, {_decibels(each['row_db'])} dB"
        for each in result["alone"]
    ]
    return "\n".join(lines)


def _decibels(value: float | None) -> str:
    return "the same" if value is None else f"{value:.1f}"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of images, at least 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Tell where a provider departs from the CPU, tensor by tensor."
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="a model file made by vit-edge")
    parser.add_argument("--provider", required=True, help="the provider to compare, as for vit-edge classify")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to run")
    parser.add_argument("--count", type=_count, default=4, metavar="N", help="images to run (default: 4)")
    parser.add_argument(
        "--alone", type=int, default=8, metavar="N", help="operators to try by themselves (default: 8)"
    )
    parser.add_argument("--fallback", action="store_true", help="operators may run on the CPU")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the walk as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
