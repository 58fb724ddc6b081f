"""Models: protobuf by hand, as no writer would make these."""

import json
import struct
from pathlib import Path

from tools.hostile.images import zip_archive
from tools.hostile.manifests import manifest

_GOOD = Path(__file__).resolve().parents[2] / "tests" / "data" / "dynamic.onnx"


def varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor_info(name: bytes, kind: int, dims: tuple[int | bytes, ...]) -> bytes:
    """A ValueInfoProto; a dimension is a number or a symbol."""
    shape = b"".join(field(1, field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


INPUT = tensor_info(b"pixel_values", 1, (b"N", 3, 8, 8))
OUTPUT = tensor_info(b"logits", 1, (b"N", 3))


def graph(*parts: bytes, image: bytes = INPUT, output: bytes = OUTPUT) -> bytes:
    return b"".join(parts) + field(11, image) + field(12, output)


def model(body: bytes, *more: bytes) -> bytes:
    return field(1, 10) + field(8, field(2, 20)) + field(7, body) + b"".join(more)


def node(op_type: bytes, *inputs: bytes, domain: bytes = b"", output: bytes = b"logits") -> bytes:
    names = b"".join(field(1, name) for name in inputs)
    return field(1, names + field(2, output) + field(4, op_type) + field(7, domain))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    return model(inner)


def runnable(body: bytes, *parts: bytes) -> bytes:
    """A model that says how its input is normalised, so that onnxruntime gets to see it."""
    spec = json.dumps(manifest()["preprocess"]).encode()
    return model(body, field(14, field(1, b"vit_edge.preprocess") + field(2, spec)), *parts)


def constant_bomb() -> bytes:
    """Four terabytes of zeros, asked for by one node."""
    shape = field(1, 1) + field(2, 7) + field(8, b"shape") + field(9, struct.pack("<q", 2**40))
    return runnable(
        graph(
            field(5, shape),
            node(b"ConstantOfShape", b"shape", output=b"bomb"),
            node(b"Add", b"bomb", b"bomb"),
        )
    )


def node_of(op_type: bytes, *parts: bytes) -> bytes:
    return field(1, field(4, op_type) + b"".join(parts))


def function(name: bytes, *calls: bytes) -> bytes:
    body = b"".join(field(7, field(4, call) + field(7, b"local")) for call in calls)
    return field(25, field(1, name) + body + field(10, b"local"))


def functions(depth: int) -> bytes:
    """Each function calls the one before it twice: two to that power of nodes."""
    doubled = [
        function(b"f%d" % level, b"f%d" % (level - 1), b"f%d" % (level - 1)) for level in range(1, depth)
    ]
    return model(graph(node(b"f%d" % (depth - 1), domain=b"local")), function(b"f0", b"Abs"), *doubled)


def loop(turns: int, *parts: bytes) -> bytes:
    """A Loop of so many turns that does nothing in each, and more parts of the file."""
    info = tensor_info(b"i", 7, ()), tensor_info(b"c", 9, ())
    body = (
        field(1, field(1, b"c") + field(2, b"d") + field(4, b"Identity"))
        + b"".join(field(11, each) for each in info)
        + field(12, tensor_info(b"d", 9, ()))
    )
    count = field(2, 7) + field(8, b"turns") + field(9, struct.pack("<q", turns))
    attribute = field(5, field(1, b"body") + field(6, body) + field(20, 5))
    return runnable(
        graph(field(5, count), node_of(b"Loop", field(1, b"turns"), field(1, b""), attribute)), *parts
    )


def context(embedded: int) -> bytes:
    """A compiled part; where it is not embedded, its value is the path of a file."""
    attributes = field(5, field(1, b"embed_mode") + field(3, embedded) + field(20, 2)) + field(
        5, field(1, b"ep_cache_context") + field(4, b"/etc/passwd") + field(20, 3)
    )
    return model(graph(node_of(b"EPContext", attributes, field(7, b"com.microsoft"))))


EXTERNAL = field(8, b"w") + field(13, field(1, b"location") + field(2, b"/etc/passwd")) + field(14, 1)


def models() -> dict[str, bytes]:
    good = _GOOD.read_bytes()
    hidden_key = varint((13 << 3 | 2) + 2**32)  # protobuf readers that drop the high bits see field 13
    location = field(1, b"location") + field(2, b"/etc/passwd")
    hidden = field(8, b"w") + hidden_key + varint(len(location)) + location + field(14, 2**32 + 1)
    absurd = field(1, 2**40) + field(2, 1) + field(8, b"w")
    wide = tensor_info(b"pixel_values", 1, (b"N", 3, 2**31, 2**31))
    negative = tensor_info(b"pixel_values", 1, (b"N", 3, 2**64 - 8, 8))
    return {
        "external_data.onnx": model(graph(field(5, EXTERNAL))),
        "external_data_behind_an_overlong_key.onnx": model(graph(field(5, hidden))),
        "external_data_in_a_function.onnx": model(
            graph(), field(25, field(1, b"f") + field(7, field(5, field(5, EXTERNAL))))
        ),
        "custom_domain.onnx": model(graph(node(b"Run", b"pixel_values", domain=b"evil.example"))),
        "compiled_context.onnx": model(graph(node(b"EPContext", b"pixel_values", domain=b"com.microsoft"))),
        "input_of_exabytes.onnx": model(graph(image=wide)),
        "input_of_negative_size.onnx": model(graph(image=negative)),
        "batch_of_billions.onnx": model(graph(image=tensor_info(b"pixel_values", 1, (2**31, 3, 8, 8)))),
        "classes_by_the_billion.onnx": model(graph(output=tensor_info(b"logits", 1, (b"N", 2**40)))),
        "weight_without_its_values.onnx": runnable(graph(field(5, absurd), node(b"Add", b"w", b"w"))),
        "constant_of_terabytes.onnx": constant_bomb(),
        "nested_graphs.onnx": nested(40),
        "loop_of_a_trillion_turns.onnx": loop(2**40),
        "loop_behind_a_function_of_its_name.onnx": loop(2**40, field(25, field(1, b"Loop"))),
        "context_behind_a_function_of_its_name.onnx": model(
            graph(node(b"EPContext", b"pixel_values", domain=b"com.microsoft")),
            field(25, field(1, b"EPContext") + field(10, b"com.microsoft")),
        ),
        "functions_that_double.onnx": functions(60),
        "functions_in_a_circle.onnx": model(
            graph(node(b"a", domain=b"local")), function(b"a", b"b"), function(b"b", b"a")
        ),
        "compiled_context_in_another_file.onnx": context(0),
        "graph_that_needs_itself.onnx": runnable(graph(node(b"Identity", b"logits"))),
        "endless_number.onnx": b"\x80" * 64,
        "field_longer_than_the_file.onnx": field(1, 10) + b"\x3a" + varint(2**31 - 1),
        "no_graph.onnx": field(1, 10),
        "zip.onnx": zip_archive() + bytes(64),
        "runtime_format.onnx": b"\x20\0\0\0ORTM" + bytes(56),
        "also_looks_like_runtime_format.onnx": b"\x12\x06abORTM" + good,
    }
