"""What an ONNX file says about itself, read without the onnx package.

The few fields of onnx.proto that decide whether a file may be loaded. Tensor contents are stepped over, not
copied. Any byte string gives a header or a ValueError; the wire's reader bounds the work, `_MAX_DEPTH` the
nesting.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping

from vit_edge.runtime.model.wire import WireReader, enum_number, message, text

FLOAT, UINT8, FLOAT16 = 1, 2, 10  # TensorProto.DataType

_MAX_DEPTH = 16  # subgraphs within subgraphs
_EXTERNAL = 1  # TensorProto.DataLocation
ACTIVATIONS = frozenset({"Softmax", "Sigmoid"})
# Operators behind an activation that leave its values as they are, but for rounding.
PASSING = frozenset(
    {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "QuantizeLinear", "DequantizeLinear"}
)

# Whose operators onnxruntime ships. It takes its own, whatever function of that name a file holds.
OPERATOR_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
COMPILED = "EPContext"  # a part that is compiled for one device
MOST_NODES = 200_000  # with every call of a local function replaced by its nodes, as a loader does it
_MOST_CALLS = 64  # of functions within one another

Operator = tuple[str, str]  # (domain, op_type)


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A graph input or output; a dimension is None where it is symbolic, `dims` where no shape is stated."""

    name: str
    elem_type: int  # TensorProto.DataType, 0 where it is no tensor
    dims: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class OnnxHeader:
    """The part of a ModelProto that is checked before onnxruntime sees it."""

    ir_version: int
    opset_imports: dict[str, int]
    metadata: dict[str, str]
    inputs: tuple[TensorInfo, ...]  # without those that are initializers
    outputs: tuple[TensorInfo, ...]
    foreign_operators: frozenset[Operator]  # of nodes, but those that the file itself defines
    external_data: bool  # some tensor, or compiled part, keeps its values in another file
    nodes: int  # with local functions replaced by their nodes; at most MOST_NODES + 1
    ends: Mapping[str, str]  # name of an output -> Softmax or Sigmoid, of those that one of them makes


def read_header(data: bytes) -> OnnxHeader:
    """Read the header of a serialised ModelProto.

    Raises:
        ValueError: the bytes are no ModelProto; the message says why.
    """
    reader = _Reader()
    view = memoryview(data)
    ir_version, graphs = 0, 0
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    for number, value in reader.fields(view):
        match number:
            case 1 if isinstance(value, int):
                ir_version = value
            case 7:
                graphs += 1
                reader.graph(message(value), 0, main=True)
            case 8:
                domain, version = reader.pair(message(value))
                opsets[text(domain)] = version if isinstance(version, int) else 0
            case 14:
                key, entry = reader.pair(message(value))
                metadata[text(key)] = text(entry)
            case 20:
                for _, training_graph in reader.fields(message(value)):
                    reader.graph(message(training_graph), 0)
            case 25:
                reader.function(message(value))
    if ir_version < 1 or graphs == 0:
        raise ValueError("no ONNX graph in it")
    return OnnxHeader(
        ir_version=ir_version,
        opset_imports=opsets,
        metadata=metadata,
        inputs=tuple(info for info in reader.inputs if info.name not in reader.initializers),
        outputs=tuple(reader.outputs),
        foreign_operators=frozenset(
            each for each in reader.operators if each[0] in OPERATOR_DOMAINS or each not in reader.functions
        ),
        external_data=reader.external,
        nodes=_expanded(reader.calls, reader.functions),
        ends=reader.ends(),
    )


class _Reader(WireReader):
    """Collects over all graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []
        self.initializers: set[str] = set()
        self.operators: set[Operator] = set()
        self.functions: dict[Operator, Counter[Operator]] = {}  # what each calls, how often
        self.calls: Counter[Operator] = Counter()  # of what is being read: the graphs, or a function
        self.external = False
        self.last: dict[
            str, tuple[str, str]
        ] = {}  # value -> (operator, its first input), of those of interest

    def ends(self) -> dict[str, str]:
        """Of each output that an activation makes, which."""
        found = {}
        for info in self.outputs:
            name = info.name
            for _ in range(len(self.last)):  # a file may go round in circles
                operator, source = self.last.get(name, ("", ""))
                if operator in ACTIVATIONS:
                    found[info.name] = operator
                if operator not in PASSING:
                    break
                name = source
        return found

    def graph(self, view: memoryview, depth: int, main: bool = False) -> None:
        """A GraphProto."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
        for number, value in self.fields(view):
            match number:
                case 1:
                    self.node(message(value), depth, main)
                case 5:
                    name = self.tensor(message(value))
                    if main:
                        self.initializers.add(name)
                case 15:
                    self.sparse(message(value))
                case 11 if main:
                    self.inputs.append(self.value_info(message(value)))
                case 12 if main:
                    self.outputs.append(self.value_info(message(value)))

    def node(self, view: memoryview, depth: int, main: bool = False) -> None:
        """A NodeProto: its operator, and the tensors and subgraphs in its attributes."""
        domain = op_type = ""
        numbers: dict[str, int] = {}
        names: dict[int, int | memoryview] = {}  # of the first input (1) and the first output (2)
        for number, value in self.fields(view):
            match number:
                case 1 | 2:
                    names.setdefault(number, value)
                case 4:
                    op_type = text(value)
                case 5:
                    numbers.update([self.attribute(message(value), depth)])
                case 7:
                    domain = text(value)
        self.operators.add((domain, op_type))
        self.calls[domain, op_type] += 1
        if op_type == COMPILED and numbers.get("embed_mode", 1) == 0:
            self.external = True
        if main and len(names) == 2 and op_type in ACTIVATIONS | PASSING:
            self.last[text(names[2])] = op_type, text(names[1])

    def attribute(self, view: memoryview, depth: int) -> tuple[str, int]:
        """An AttributeProto; returns its name, and its value where that is one integer, else 0."""
        name, integer = "", 0
        for number, value in self.fields(view):
            match number:
                case 1:
                    name = text(value)
                case 3 if isinstance(value, int):
                    integer = value
                case 5 | 10:
                    self.tensor(message(value))
                case 6 | 11:
                    self.graph(message(value), depth + 1)
                case 22 | 23:
                    self.sparse(message(value))
        return name, integer

    def sparse(self, view: memoryview) -> None:
        """A SparseTensorProto."""
        for number, value in self.fields(view):
            if number in (1, 2):
                self.tensor(message(value))

    def tensor(self, view: memoryview) -> str:
        """A TensorProto; returns its name."""
        name = ""
        for number, value in self.fields(view):
            if number == 8:
                name = text(value)
            elif number == 13 or (number == 14 and enum_number(value) == _EXTERNAL):
                self.external = True
        return name

    def function(self, view: memoryview) -> None:
        """A FunctionProto: a model-local operator."""
        name = domain = ""
        outside, self.calls = self.calls, Counter()
        for number, value in self.fields(view):
            match number:
                case 1:
                    name = text(value)
                case 7:
                    self.node(message(value), 0)
                case 10:
                    domain = text(value)
                case 11:
                    self.attribute(message(value), 0)
        self.functions.setdefault((domain, name), Counter()).update(self.calls)
        self.calls = outside

    def value_info(self, view: memoryview) -> TensorInfo:
        """A ValueInfoProto."""
        name, kind = self.pair(view)
        elem_type: int = 0
        dims: list[int | None] | None = None
        for number, value in self.fields(message(kind)):
            if number != 1:  # a sequence, map, optional or sparse tensor
                continue
            for tensor_number, tensor_value in self.fields(message(value)):
                if tensor_number == 1 and isinstance(tensor_value, int):
                    elem_type = tensor_value
                elif tensor_number == 2:
                    shape = self.fields(message(tensor_value))
                    dims = [self.dimension(message(dim)) for field, dim in shape if field == 1]
        return TensorInfo(text(name), elem_type, None if dims is None else tuple(dims))

    def dimension(self, view: memoryview) -> int | None:
        """A Dimension: its value, None where it is a symbol or unknown."""
        value = dict(self.fields(view)).get(1)
        return value if isinstance(value, int) else None


def _expanded(calls: Counter[Operator], functions: Mapping[Operator, Counter[Operator]]) -> int:
    """How many nodes there are once every call of a function is replaced by its body."""
    known: dict[Operator, int] = {}

    def size(name: Operator, depth: int) -> int:
        if name not in functions:
            return 1
        if depth > _MOST_CALLS:  # a circle has no end
            return MOST_NODES + 1
        if name not in known:
            known[name] = total(functions[name], depth + 1)
        return known[name]

    def total(calls: Counter[Operator], depth: int) -> int:
        nodes = 0
        for name, count in calls.items():
            nodes += count * size(name, depth)
            if nodes > MOST_NODES:
                break
        return min(nodes, MOST_NODES + 1)

    return total(calls, 0)
