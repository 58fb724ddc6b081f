"""A few hidden channels that alone decide how far a layer's input reaches, taken into a branch of their own.

In a trained ViT one channel behind the first layer of an MLP may reach hundreds on a few tokens, where all
others stay below ten (massive activations, Sun et al. 2024). One range for all of them then has steps as wide
as the others' whole spread. Such a channel is a thin MLP of its own: its column of the first layer, the
non-linearity, its row of the second. Taken out of both and added to the result it is the same function, its
range is its own, and the others' steps are as fine as they would be without it. No operator works in a new
way, and nothing is measured at run time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from vit_edge.arrays import Array, Float64
from vit_edge.host.quantize.folds import set_inputs
from vit_edge.host.quantize.histogram import Histogram
from vit_edge.host.quantize.observe import Activation
from vit_edge.host.rewrite.composites import LINEAR, composites, is_activation, is_composite
from vit_edge.host.rewrite.values import linear_parts, only_user, static_shape, typed
from vit_edge.manifest import OutlierChannels

SHRINKS = 0.5  # the range of the others at most, of what it is with them
MOST = 0.01  # of the channels; more of them are no outliers
SUFFIX = "outliers"  # behind the names of the layers that they came from


class Hidden(NamedTuple):
    """An MLP's hidden channels: made by one layer, changed each alone, read by another, and by no other."""

    first: ir.Node
    activation: ir.Node
    second: ir.Node


def split_outliers(graph: ir.Graph, seen: dict[str, Activation]) -> list[OutlierChannels]:
    """Take out the outlier channels of every MLP, in place; `seen` is brought up to date.

    Args:
        graph: a canonical graph of composites.
        seen: the observed input of each Linear.
    """
    found = []
    for hidden in list(_hidden_channels(graph)):
        read = seen[str(hidden.second.name)]
        channels = outlying(read.low, read.high)
        if channels.size:
            before, after = _split(graph, hidden, channels, seen)
            place = str(hidden.second.name)
            found.append(OutlierChannels(place, tuple(channels.tolist()), round(before, 2), round(after, 2)))
    return found


def outlying(low: Float64, high: Float64) -> npt.NDArray[np.intp]:
    """The channels without which the range of all together is at most half as long; none where none are.

    Args:
        low: the smallest value of each channel, (channels,).
        high: the largest, (channels,).
    """
    order = np.argsort(-np.maximum(np.abs(low), np.abs(high)), kind="stable")
    most, taken = int(len(low) * MOST), 0
    for count in range(1, most + 1):
        if _length(low, high, order[count:]) <= SHRINKS * _length(low, high, order[taken:]):
            taken = count
    return np.sort(order[:taken])


def _length(low: Float64, high: Float64, channels: npt.NDArray[np.intp]) -> float:
    """Of the range that holds these channels, and zero."""
    return max(float(high[channels].max()), 0.0) - min(float(low[channels].min()), 0.0)


def _hidden_channels(graph: ir.Graph) -> Iterator[Hidden]:
    for second in composites(graph, LINEAR):
        value = second.inputs[0]
        activation = None if value is None else value.producer()
        if value is None or activation is None or not is_activation(activation):
            continue
        given = activation.inputs[0]
        first = None if given is None else given.producer()
        if given is None or first is None or not is_composite(first, LINEAR):
            continue
        alone = only_user(value) is second and only_user(given) is activation
        if alone and not second.outputs[0].is_graph_output():
            yield Hidden(first, activation, second)


def _split(
    graph: ir.Graph, hidden: Hidden, channels: npt.NDArray[np.intp], seen: dict[str, Activation]
) -> tuple[float, float]:
    """Do it; returns how long the range of the second layer's input was before and is now."""
    first, activation, second = hidden
    x, into, bias = linear_parts(first)
    _, out_of, added = linear_parts(second)
    read, name = seen[str(second.name)], str(second.name)
    before = _length(read.low, read.high, np.arange(len(read.low)))

    thin = _linear(graph, first, x, [into[:, channels], *([] if bias is None else [bias[channels]])])
    changed = ir.Node(
        activation.domain,
        activation.op_type,
        [thin.outputs[0]],
        list(activation.attributes.values()),
        name=f"{activation.name}.{SUFFIX}",
        version=activation.version,
    )
    typed(changed.outputs[0], static_shape(thin.outputs[0]) or ())
    back = _linear(graph, second, changed.outputs[0], [out_of[channels]])
    total = ir.Node("", "Add", [second.outputs[0], back.outputs[0]], name=f"{name}.with_{SUFFIX}")
    typed(total.outputs[0], static_shape(second.outputs[0]) or ())
    graph.insert_before(second, [thin, changed, back])
    graph.insert_after(second, total)
    for node, place in list(second.outputs[0].uses()):
        if node is not total:
            node.replace_input_with(place, total.outputs[0])

    set_inputs(graph, first, [_without(into, channels, 1), *_bias_without(bias, channels)])
    set_inputs(graph, second, [_without(out_of, channels, 0), *([] if added is None else [added])])
    seen[str(thin.name)] = seen[str(first.name)]
    seen[str(back.name)] = _only(read, channels)
    seen[name] = rest = _silenced(read, channels)
    return before, _length(rest.low, rest.high, np.arange(len(rest.low)))


def _linear(graph: ir.Graph, like: ir.Node, x: ir.Value, arrays: list[Array]) -> ir.Node:
    """A Linear of the same input rows as another, and of other weights."""
    node = ir.Node(
        like.domain,
        like.op_type,
        [x, *([None] * len(arrays))],
        name=f"{like.name}.{SUFFIX}",
        version=like.version,
    )
    set_inputs(graph, node, arrays)
    rows = (static_shape(like.outputs[0]) or (0,))[0]
    typed(node.outputs[0], (rows, arrays[0].shape[1]))
    return node


def _bias_without(bias: Array | None, channels: npt.NDArray[np.intp]) -> list[Array]:
    return [] if bias is None else [_without(bias, channels, 0)]


def _without(array: Array, channels: npt.NDArray[np.intp], axis: int) -> Array:
    """The same with zeros there: sizes stay, and with them what kernels are fast for."""
    kept = array.copy()
    kept[(slice(None),) * axis + (channels,)] = 0
    return kept


def _only(read: Activation, channels: npt.NDArray[np.intp]) -> Activation:
    """What these channels were like."""
    moment = None if read.moment is None else read.moment[np.ix_(channels, channels)]
    sample = np.ascontiguousarray(read.sample[:, channels])
    low, high, mean = (values[channels] for values in (read.low, read.high, read.mean))
    return Activation(low, high, mean, moment, read.rows, sample, Histogram.of(sample))


def _silenced(read: Activation, channels: npt.NDArray[np.intp]) -> Activation:
    """What the activation is like where these channels get what silence gives: nothing reads them."""
    low, high, mean = (_without(values, channels, 0) for values in (read.low, read.high, read.mean))
    moment = None
    if read.moment is not None:
        moment = _without(_without(read.moment, channels, 0), channels, 1)
    sample = _without(read.sample, channels, 1)
    return Activation(low, high, mean, moment, read.rows, sample, Histogram.of(sample))
