"""Whether somebody's ONNX graph ends in vectors of length 1, as the image towers of CLIP and SigLIP do."""

import onnx

_PASSING = ("Expand", "Clip", "Max", "Add", "Identity", "Cast")
_MOST_STEPS = 8


def ends_in_unit_length(model: onnx.ModelProto, output: str | None = None) -> bool:
    """Whether an output is a value divided by its own length.

    Args:
        model: any.
        output: its name; None: that of the only one.
    """
    names = [value.name for value in model.graph.output]
    if output is None and len(names) != 1:
        return False
    made = {name: node for node in model.graph.node for name in node.output}
    last = made.get(output or names[0])
    while last is not None and last.op_type in ("Identity", "Cast"):
        last = made.get(last.input[0])
    if last is None:
        return False
    if last.op_type == "LpNormalization":
        return True
    return last.op_type == "Div" and _is_length(made, last.input[1], last.input[0])


def _is_length(made: dict[str, onnx.NodeProto], name: str, of: str) -> bool:
    """Whether a value is the length of another, behind guards."""
    for _ in range(_MOST_STEPS):
        node = made.get(name)
        if node is None:
            return False
        if node.op_type == "ReduceL2":
            return bool(node.input[0] == of)
        if node.op_type == "Sqrt":
            total = made.get(node.input[0])
            square = None if total is None else made.get(total.input[0])
            if total is None or square is None or total.op_type != "ReduceSum":
                return False
            return square.op_type in ("Mul", "Pow") and bool(square.input[0] == of)
        if node.op_type not in _PASSING:
            return False
        name = next((each for each in node.input if each in made and made[each].op_type != "Constant"), "")
    return False
