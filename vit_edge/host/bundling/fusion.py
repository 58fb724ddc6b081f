"""Why integers do not pay: what onnxruntime left unfused, and where the time goes."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx

from vit_edge.host.ort import cpu_session
from vit_edge.manifest import IntegerGraph
from vit_edge.runtime.measure.profile import profile
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import SessionSettings

INTEGER = frozenset(
    {
        "QGemm",
        "QLinearMatMul",
        "QLinearConv",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "ConvInteger",
    }
)
FLOAT = frozenset(
    {"MatMul", "Gemm", "Conv", "FusedMatMul", "FusedGemm", "FusedConv", "Attention", "MultiHeadAttention"}
)
SLOWEST = 5  # operators that are named


def fusion_of(model: ModelFile, settings: SessionSettings) -> IntegerGraph:
    """Look at the graph that onnxruntime makes of a model on the CPU, and time its operators.

    Raises:
        ModelError: the model cannot be loaded or run.
    """
    graph = optimised(model)
    kinds = Counter(node.op_type for node in graph.node)
    found = IntegerGraph(
        integer_products=sum(kinds[kind] for kind in INTEGER),
        float_products=sum(kinds[kind] for kind in FLOAT),
        islands=_islands(graph.node),
        unfused=kinds["DequantizeLinear"],
        operators=profile(model, settings),
        summary="",
    )
    return dataclasses.replace(found, summary=_summary(found))


def _summary(found: IntegerGraph) -> str:
    slowest = ", ".join(f"{each.operator} {100 * each.share:.0f} %" for each in found.operators[:SLOWEST])
    return (
        f"{found.integer_products} integer products and {found.float_products} in float, {found.islands} of "
        f"these between integer ones; {found.unfused} DequantizeLinear left unfused; most time: {slowest}"
    )


def optimised(model: ModelFile) -> onnx.GraphProto:
    """The graph that runs on this machine's CPU, after all fusions."""
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        path = Path(folder, "optimised.onnx")
        cpu_session(model.data, model.session_options, optimised=path)
        return onnx.load(path).graph


def _islands(nodes: Iterable[onnx.NodeProto]) -> int:
    """Float products that depend on an integer product's result and that one depends on in turn."""
    ordered = list(nodes)
    after = _reached(ordered, forward=True)
    before = _reached(ordered[::-1], forward=False)
    return sum(
        node.op_type in FLOAT and i in after and len(ordered) - 1 - i in before
        for i, node in enumerate(ordered)
    )


def _reached(nodes: list[onnx.NodeProto], *, forward: bool) -> set[int]:
    """The places of the nodes that an integer product comes before, in the order given."""
    marked: set[str] = set()
    found = set()
    for i, node in enumerate(nodes):
        sources, results = (node.input, node.output) if forward else (node.output, node.input)
        if any(name in marked for name in sources):
            found.add(i)
        if i in found or node.op_type in INTEGER:
            marked.update(name for name in results if name)
    return found
