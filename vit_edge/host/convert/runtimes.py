"""The oldest onnxruntime that loads a file, by its opset and IR version.

Measured: a float and an INT8 Vision Transformer of each opset and IR version were loaded and run by every
minor release from 1.15 to 1.24. An IR version or opset that a release does not know it refuses; INT8 asks for
more where the kernels of QuantizeLinear came later than the opset (21: 1.19 has none, 23: 1.23 has none).
"""

import onnx

_TRIED = (1, 15)  # the oldest release that was tried, so that what it loads may load in older ones
_BY_OPSET = {17: (1, 15), 18: (1, 15), 19: (1, 16), 20: (1, 17), 21: (1, 18), 22: (1, 21), 23: (1, 23)}
_BY_IR = {8: (1, 15), 9: (1, 16), 10: (1, 18), 11: (1, 23)}
_INT8_BY_OPSET = {21: (1, 20), 23: (1, 24)}


def oldest_onnxruntime(model: onnx.ModelProto) -> str:
    """In words for a human: a release, or that it is not known."""
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    stated = f"opset {opset}, IR {model.ir_version}"
    if opset not in _BY_OPSET or not min(_BY_IR) <= model.ir_version <= max(_BY_IR):
        return f"which release is the oldest for {stated} was not tried"
    oldest = max(_BY_OPSET[opset], _BY_IR[model.ir_version])
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        oldest = max(oldest, _INT8_BY_OPSET.get(opset, oldest))
    release = ".".join(map(str, oldest))
    older = ", perhaps older" if oldest == _TRIED else ""
    return f"{release} or newer{older} ({stated})"
