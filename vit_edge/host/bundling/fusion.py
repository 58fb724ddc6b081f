"""Why integers do not pay: what onnxruntime left unfused, and where the time goes."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from vit_edge.runtime.measure.profile import OperatorTime, profile
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


@dataclasses.dataclass(frozen=True)
class Fusion:
    """An integer model as onnxruntime runs it."""

    integer_products: int
    float_products: int
    islands: int  # float products with an integer product both before and after them
    unfused: int  # DequantizeLinear that no integer kernel has taken in, each half a wasted pair
    operators: tuple[OperatorTime, ...]  # the slowest first

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        operators = [dataclasses.asdict(each) for each in self.operators]
        return dataclasses.asdict(self) | {"operators": operators, "summary": str(self)}

    def __str__(self) -> str:
        slowest = ", ".join(f"{each.operator} {100 * each.share:.0f} %" for each in self.operators[:SLOWEST])
        return (
            f"{self.integer_products} integer products and {self.float_products} in float, {self.islands} of "
            f"these between integer ones; {self.unfused} DequantizeLinear left unfused; most time: {slowest}"
        )


def fusion_of(model: ModelFile, settings: SessionSettings) -> Fusion:
    """Look at the graph that onnxruntime makes of a model on the CPU, and time its operators.

    Raises:
        ModelError: the model cannot be loaded or run.
    """
    graph = optimised(model)
    kinds = Counter(node.op_type for node in graph.node)
    return Fusion(
        integer_products=sum(kinds[kind] for kind in INTEGER),
        float_products=sum(kinds[kind] for kind in FLOAT),
        islands=_islands(graph.node),
        unfused=kinds["DequantizeLinear"],
        operators=profile(model, settings),
    )


def optimised(model: ModelFile) -> onnx.GraphProto:
    """The graph that runs on this machine's CPU, after all fusions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in model.session_options:
        options.add_session_config_entry(key, value)
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        onnxruntime.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath).graph


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
