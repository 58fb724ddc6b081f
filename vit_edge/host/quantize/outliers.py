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
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.rewrite.composites import LINEAR, composites, is_activation, is_composite
from vit_edge.host.rewrite.values import linear_parts, only_user, static_shape, typed
from vit_edge.manifest import OutlierChannels

SHRINKS = 0.5  # the range of the others at most, of what it is with them
SHARE = 0.01  # of the channels at most; more of them are no outliers
MOST = 4  # of them in a layer: each costs a few thin operators


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
    most, taken = min(MOST, int(len(low) * SHARE)), 0
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
    first, _, second = hidden
    _, into, bias = linear_parts(first)
    _, out_of, added = linear_parts(second)
    read, name = seen[str(second.name)], str(second.name)
    readers = list(second.outputs[0].uses())
    total = second.outputs[0]
    for channel in channels.tolist():
        thin, product = _branch(graph, hidden, channel)
        total = _sum(graph, total, product, f"{name}.with{channel}")
        seen[str(thin.name)] = seen[str(first.name)]
    for use in readers:
        use.node.replace_input_with(use.idx, total)
    set_inputs(graph, first, [_without(into, channels, 1), *_bias_without(bias, channels)])
    set_inputs(graph, second, [_without(out_of, channels, 0), *([] if added is None else [added])])
    seen[name] = rest = _silenced(read, channels)
    every = np.arange(len(read.low))
    return _length(read.low, read.high, every), _length(rest.low, rest.high, every)


def _branch(graph: ir.Graph, hidden: Hidden, channel: int) -> tuple[ir.Node, ir.Value]:
    """One channel by itself: what makes it, and what it adds to the second layer's result.

    A product with one inner number is one of each row with each column. Written so it has no sum, hence no
    accumulator, and devices that compute in 16 bits keep the row's zero a zero.
    """
    first, activation, second = hidden
    x, into, bias = linear_parts(first)
    rows = (static_shape(first.outputs[0]) or (0,))[0]
    thin = ir.Node(
        first.domain, first.op_type, [x, None], name=f"{first.name}.outlier{channel}", version=first.version
    )
    part = slice(channel, channel + 1)
    set_inputs(graph, thin, [into[:, part], *([] if bias is None else [bias[part]])])
    changed = ir.Node(
        activation.domain,
        activation.op_type,
        [thin.outputs[0]],
        list(activation.attributes.values()),
        name=f"{activation.name}.outlier{channel}",
        version=activation.version,
    )
    product = ir.Node("", "Mul", [changed.outputs[0], None], name=f"{second.name}.outlier{channel}")
    set_inputs(graph, product, [linear_parts(second)[1][part]])
    for node, columns in ((thin, 1), (changed, 1), (product, linear_parts(second)[1].shape[1])):
        typed(node.outputs[0], (rows, columns))
    graph.insert_before(second, [thin, changed, product])
    return thin, product.outputs[0]


def _sum(graph: ir.Graph, left: ir.Value, right: ir.Value, name: str) -> ir.Value:
    """The sum of what two nodes make, the first of which stands later."""
    node = ir.Node("", "Add", [left, right], name=name)
    made = typed(node.outputs[0], static_shape(left) or ())
    after = left.producer()
    if after is None:
        raise ValueError(f"{name}: a graph input is no layer's result")
    graph.insert_after(after, node)
    return made


def _bias_without(bias: Array | None, channels: npt.NDArray[np.intp]) -> list[Array]:
    return [] if bias is None else [_without(bias, channels, 0)]


def _without(array: Array, channels: npt.NDArray[np.intp], axis: int) -> Array:
    """The same with zeros there: sizes stay, and with them what kernels are fast for."""
    kept = array.copy()
    kept[(slice(None),) * axis + (channels,)] = 0
    return kept


def _silenced(read: Activation, channels: npt.NDArray[np.intp]) -> Activation:
    """What the activation is like where these channels get what silence gives: nothing reads them."""
    low, high, mean = (_without(values, channels, 0) for values in (read.low, read.high, read.mean))
    moment = None
    if read.moment is not None:
        moment = _without(_without(read.moment, channels, 0), channels, 1)
    sample = _without(read.sample, channels, 1)
    return Activation(low, high, mean, moment, read.rows, sample, Histogram.of(sample))
