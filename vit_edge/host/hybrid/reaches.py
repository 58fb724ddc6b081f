"""How far the tensors of a float file reach, and the range that 8 bits are spread over."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vit_edge.host.ort import cpu_session

Floats = npt.NDArray[np.float32]
Feeds = Sequence[Mapping[str, npt.NDArray[np.generic]]]

SHRINKS = tuple(0.95**power for power in range(36))  # of either end of a range, down to a sixth
KEPT = 4096  # values of a tensor that are kept of each image
_POINTWISE = ("Add", "Div", "Erf", "Mul", "Pow", "Relu", "Sigmoid", "Sub", "Tanh")

Function = Callable[[Floats], Floats]


@dataclasses.dataclass(frozen=True)
class Reach:
    """What was seen of a tensor, and the range that 8 bits are spread over."""

    low: float
    high: float
    range: tuple[float, float]

    @property
    def whole(self) -> Self:
        """The same with a range that clips nothing that was seen."""
        return dataclasses.replace(self, range=(min(self.low, 0.0), max(self.high, 0.0)))


def reaches_of(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Reach]:
    """The extremes of every float tensor, and the range with the least squared error, from images.

    Where a non-linearity alone reads a tensor, the error is that of what it makes: in front of GELU, nothing
    is lost where everything below -3 becomes -3, and steps are twice as fine.

    Args:
        model: of standard operators, for one image.
        feeds: what it takes, of each image.
    """
    shown = onnx.shape_inference.infer_shapes(model)
    present = {output.name for output in shown.graph.output}
    shown.graph.output.extend(
        value
        for value in shown.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in present
    )
    session = cpu_session(shown.SerializeToString(), fused=False)
    names = [output.name for output in session.get_outputs()]
    random = np.random.default_rng(0)
    kept: dict[str, list[Floats]] = {name: [] for name in names}
    for feed in feeds:
        for name, values in zip(names, session.run(names, dict(feed)), strict=True):
            flat = values.ravel()
            some = flat if flat.size <= KEPT else random.choice(flat, KEPT, replace=False)
            kept[name].append(np.concatenate([some, [flat.min(), flat.max()]]))
    return {
        name: reach_of(np.concatenate(values), function_behind(model, name)) for name, values in kept.items()
    }


def function_behind(model: onnx.ModelProto, tensor: str) -> Function:
    """What the file makes of each value of a tensor by itself, before it is mixed with anything else."""
    graph = model.graph
    scalars = {constant.name: constant for constant in graph.initializer if np.prod(constant.dims) <= 1}
    inside, nodes = {tensor}, []
    for node in graph.node:
        given = set(node.input) - scalars.keys()
        if node.op_type in _POINTWISE and given and given <= inside:
            inside.update(node.output)
            nodes.append(node)
    outside = [node for node in graph.node if node.output[0] not in inside]
    read = {name for node in outside for name in node.input} | {output.name for output in graph.output}
    ends = sorted(inside & read)
    if len(ends) != 1 or ends == [tensor]:
        return _as_it_is
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None]) for n in (tensor, *ends)]
    used = {name for node in nodes for name in node.input} & scalars.keys()
    constants = [_scalar(scalars[name]) for name in sorted(used)]
    alone = helper.make_model(
        helper.make_graph(nodes, "pointwise", values[:1], values[1:], constants),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    session = cpu_session(alone.SerializeToString())
    return lambda values: np.asarray(session.run(None, {tensor: values})[0])


def _as_it_is(values: Floats) -> Floats:
    return values


def _scalar(constant: onnx.TensorProto) -> onnx.TensorProto:
    """The same without dimensions: (1, 1) would change the shape of what it meets."""
    return numpy_helper.from_array(numpy_helper.to_array(constant).reshape(()), constant.name)


def reach_of(values: Floats, behind: Function = _as_it_is) -> Reach:
    """The extremes of values, and the range whose rounding and clipping disturb least what is `behind`.

    Either end is drawn in, the upper one first, and once more with the lower one where it then is.
    """
    low, high = float(values.min()), float(values.max())
    exact = behind(values)

    def lost(ends: tuple[float, float]) -> float:
        step, zero = steps_of(ends)
        rounded = ((np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step).astype(np.float32)
        return float(np.square(behind(rounded) - exact, dtype=np.float64).sum())

    ends = whole = (min(low, 0.0), max(high, 0.0))
    for drawn in (1, 0, 1):
        found = [
            (ends[0], whole[1] * shrink) if drawn else (whole[0] * shrink, ends[1]) for shrink in SHRINKS
        ]
        ends = min(found, key=lost)
    return Reach(low, high, ends)


def steps_of(ends: tuple[float, float]) -> tuple[np.float32, int]:
    """The step and the zero point of 256 steps between two ends, which hold zero."""
    step = np.float32(max(ends[1] - ends[0], 1e-9) / 255)
    return step, int(np.clip(np.rint(-ends[0] / step), 0, 255))
