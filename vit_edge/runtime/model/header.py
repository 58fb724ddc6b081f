"""What an ONNX file says about itself, read without the onnx package.

A bounded reader of the protobuf wire format (https://protobuf.dev/programming-guides/encoding) for the few
fields of onnx.proto that decide whether a file may be loaded. Tensor contents are stepped over, not copied.
Any byte string gives a header or a ValueError; `_MAX_FIELDS` bounds the work, `_MAX_DEPTH` the nesting.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping

FLOAT, UINT8, FLOAT16 = 1, 2, 10  # TensorProto.DataType

_MAX_FIELDS = 2_000_000
_MAX_DEPTH = 16  # subgraphs within subgraphs
_MAX_KEY = 2**32  # onnxruntime's reader drops the bits above, so a field could pass for another one
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) do not occur in ONNX
_EXTERNAL = 1  # TensorProto.DataLocation
ACTIVATIONS = frozenset({"Softmax", "Sigmoid"})
# Operators behind an activation that leave its values as they are, but for rounding.
PASSING = frozenset(
    {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "QuantizeLinear", "DequantizeLinear"}
)

# Operators that run a graph as often as they like, so that how long one run takes cannot be told.
REPEATING = frozenset(
    {"Loop", "Scan", "SequenceMap", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}
)
# Whose operators onnxruntime ships. It takes its own, whatever function of that name a file holds.
OPERATOR_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
COMPILED = "EPContext"  # a part that is compiled for one device
MOST_NODES = 200_000  # with every call of a local function replaced by its nodes, as a loader does it
_MOST_CALLS = 64  # of functions within one another

Field = tuple[int, int | memoryview]
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


def check_bounded(header: OnnxHeader) -> None:
    """Refuse a graph whose loading or running could take any time at all.

    Raises:
        ValueError: with a clause about the file.
    """
    repeating = sorted(operator for _, operator in header.foreign_operators if operator in REPEATING)
    if repeating:
        raise ValueError(
            f"runs a part of itself as often as it likes ({repeating[0]}), which no ViT needs; "
            "export it without control flow"
        )
    if header.nodes > MOST_NODES:
        raise ValueError(
            f"becomes more than {MOST_NODES} nodes when its functions are expanded, or never ends; "
            "export it without local functions"
        )


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
                reader.graph(_message(value), 0, main=True)
            case 8:
                domain, version = reader.pair(_message(value))
                opsets[_text(domain)] = version if isinstance(version, int) else 0
            case 14:
                key, text = reader.pair(_message(value))
                metadata[_text(key)] = _text(text)
            case 20:
                for _, training_graph in reader.fields(_message(value)):
                    reader.graph(_message(training_graph), 0)
            case 25:
                reader.function(_message(value))
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


class _Reader:
    """Collects over all graphs; one field budget for the whole file."""

    def __init__(self) -> None:
        self.left = _MAX_FIELDS
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

    def fields(self, view: memoryview) -> Iterator[Field]:
        """Every (field number, value) of one message."""
        position = 0
        while position < len(view):
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"more than {_MAX_FIELDS} fields")
            key, position = _varint(view, position)
            if key >= _MAX_KEY:
                raise ValueError("a field number is out of range")
            wire = key & 7
            if wire == _VARINT:
                value, position = _varint(view, position)
                yield key >> 3, value
                continue
            if wire == _BYTES:
                size, position = _varint(view, position)
            elif wire in (_FIXED64, _FIXED32):
                size = 8 if wire == _FIXED64 else 4
            else:
                raise ValueError(f"wire type {wire} does not occur in ONNX")
            if size > len(view) - position:
                raise ValueError("it ends in the middle of a field")
            yield key >> 3, view[position : position + size]
            position += size

    def pair(self, view: memoryview) -> tuple[int | memoryview, int | memoryview]:
        """Fields 1 and 2 of a small message, empty where absent."""
        found = {1: memoryview(b""), 2: memoryview(b""), **dict(self.fields(view))}
        return found[1], found[2]

    def graph(self, view: memoryview, depth: int, main: bool = False) -> None:
        """A GraphProto."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
        for number, value in self.fields(view):
            match number:
                case 1:
                    self.node(_message(value), depth, main)
                case 5:
                    name = self.tensor(_message(value))
                    if main:
                        self.initializers.add(name)
                case 15:
                    self.sparse(_message(value))
                case 11 if main:
                    self.inputs.append(self.value_info(_message(value)))
                case 12 if main:
                    self.outputs.append(self.value_info(_message(value)))

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
                    op_type = _text(value)
                case 5:
                    numbers.update([self.attribute(_message(value), depth)])
                case 7:
                    domain = _text(value)
        self.operators.add((domain, op_type))
        self.calls[domain, op_type] += 1
        if op_type == COMPILED and numbers.get("embed_mode", 1) == 0:
            self.external = True
        if main and len(names) == 2 and op_type in ACTIVATIONS | PASSING:
            self.last[_text(names[2])] = op_type, _text(names[1])

    def attribute(self, view: memoryview, depth: int) -> tuple[str, int]:
        """An AttributeProto; returns its name, and its value where that is one integer, else 0."""
        name, integer = "", 0
        for number, value in self.fields(view):
            match number:
                case 1:
                    name = _text(value)
                case 3 if isinstance(value, int):
                    integer = value
                case 5 | 10:
                    self.tensor(_message(value))
                case 6 | 11:
                    self.graph(_message(value), depth + 1)
                case 22 | 23:
                    self.sparse(_message(value))
        return name, integer

    def sparse(self, view: memoryview) -> None:
        """A SparseTensorProto."""
        for number, value in self.fields(view):
            if number in (1, 2):
                self.tensor(_message(value))

    def tensor(self, view: memoryview) -> str:
        """A TensorProto; returns its name."""
        name = ""
        for number, value in self.fields(view):
            if number == 8:
                name = _text(value)
            elif number == 13 or (number == 14 and _enum(value) == _EXTERNAL):
                self.external = True
        return name

    def function(self, view: memoryview) -> None:
        """A FunctionProto: a model-local operator."""
        name = domain = ""
        outside, self.calls = self.calls, Counter()
        for number, value in self.fields(view):
            match number:
                case 1:
                    name = _text(value)
                case 7:
                    self.node(_message(value), 0)
                case 10:
                    domain = _text(value)
                case 11:
                    self.attribute(_message(value), 0)
        self.functions.setdefault((domain, name), Counter()).update(self.calls)
        self.calls = outside

    def value_info(self, view: memoryview) -> TensorInfo:
        """A ValueInfoProto."""
        name, kind = self.pair(view)
        elem_type: int = 0
        dims: list[int | None] | None = None
        for number, value in self.fields(_message(kind)):
            if number != 1:  # a sequence, map, optional or sparse tensor
                continue
            for tensor_number, tensor_value in self.fields(_message(value)):
                if tensor_number == 1 and isinstance(tensor_value, int):
                    elem_type = tensor_value
                elif tensor_number == 2:
                    shape = self.fields(_message(tensor_value))
                    dims = [self.dimension(_message(dim)) for field, dim in shape if field == 1]
        return TensorInfo(_text(name), elem_type, None if dims is None else tuple(dims))

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


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for index in range(10):
        if position + index >= len(view):
            raise ValueError("it ends in the middle of a number")
        byte = view[position + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result, position + index + 1
    raise ValueError("a number is longer than 64 bits")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message must be")
    return value


def _enum(value: int | memoryview) -> int:
    """An enum's number: protobuf keeps the low 32 bits."""
    return value & 0xFFFFFFFF if isinstance(value, int) else 0


def _text(value: int | memoryview) -> str:
    try:
        return str(_message(value), "utf-8")
    except UnicodeDecodeError:
        raise ValueError("a name is not UTF-8") from None
