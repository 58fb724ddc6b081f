"""Going through the operators of a lowered graph in torch, one after the other, for one image or several."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from vit_edge.host.operators import run_node

Values = dict[ir.Value, Tensor]  # what is known so far about one image


class Constants(dict[ir.Value, Tensor]):
    """The constants of a graph, each read when it is first asked for."""

    def __missing__(self, value: ir.Value) -> Tensor:
        """A constant.

        Raises:
            KeyError: the value is made at run time, and was not.
        """
        if value.const_value is None:
            raise KeyError(value.name)
        array = value.const_value.numpy()
        made = torch.from_numpy(array if array.flags.writeable else array.copy())
        self[value] = made
        return made


def step(node: ir.Node, values: Values, constants: Constants) -> None:
    """Run one operator; its outputs are added to the values."""
    given = [
        None if value is None else values[value] if value in values else constants[value]
        for value in node.inputs
    ]
    values.update(zip(node.outputs, run_node(node, given), strict=True))


def needed_for(wanted: Iterable[ir.Value], nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Those of the nodes that the values depend on, in their order."""
    needed, found = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(value for value in node.inputs if value is not None)
            found.append(node)
    return found[::-1]


@torch.no_grad()
def in_stages(
    nodes: Sequence[ir.Node], stops: Collection[ir.Value], images: Sequence[Values]
) -> Iterator[ir.Value]:
    """Run a graph up to each of the stops for every image before going on, in the order of the graph.

    Only what is read later is kept of each image. At a stop, `images` hold its value, which may be replaced
    by another before the next is asked for.

    Args:
        nodes: in the order in which they can run.
        stops: values that nodes make.
        images: what is known about each, the input at first; changed in place.
    """
    last = {value: node for node in nodes for value in node.inputs if value is not None}
    stage: list[ir.Node] = []
    for node in nodes:
        stage.append(node)
        reached = [value for value in node.outputs if value in stops]
        if reached:
            _run_stage(stage, last, images)
            yield from reached
            stage = []


def _run_stage(stage: Sequence[ir.Node], last: Mapping[ir.Value, ir.Node], images: Sequence[Values]) -> None:
    constants, own = Constants(), []
    for node in stage:  # weights become float once, and not once for every image
        if node.inputs and all(_is_constant(value, constants) for value in node.inputs):
            step(node, constants, constants)
        else:
            own.append(node)
    for values in images:
        for node in own:
            step(node, values, constants)
            for value in values.keys() & set(node.inputs):
                if last[value] is node:
                    del values[value]


def _is_constant(value: ir.Value | None, constants: Constants) -> bool:
    return value is None or value in constants or value.const_value is not None
