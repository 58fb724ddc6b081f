"""The header reader gives what the file says, and for garbage a ValueError, always."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vit_edge.runtime.model.header import FLOAT, UINT8, TensorInfo, read_header

DATA = Path(__file__).parents[2] / "data"


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def model(graph: bytes, *more: bytes) -> bytes:
    return field(1, 10) + field(7, graph) + b"".join(more)


def test_a_header_says_what_the_file_holds(data: Path) -> None:
    header = read_header((data / "pixels.onnx").read_bytes())
    assert header.ir_version == 10
    assert header.opset_imports == {"": 20, "com.example": 1}
    assert header.inputs == (TensorInfo("pixels", UINT8, (None, 8, 8, 3)),)
    assert header.outputs == (TensorInfo("logits", FLOAT, (None, 3)),)
    assert {domain for domain, _ in header.foreign_operators} == {""}
    assert not header.external_data
    assert set(header.metadata) == {"vit_edge.labels", "vit_edge.preprocess"}


@pytest.mark.parametrize("name", ["bad_foreign.onnx", "bad_foreign_subgraph.onnx"])
def test_a_foreign_operator_is_seen_at_any_depth(data: Path, name: str) -> None:
    operators = read_header((data / name).read_bytes()).foreign_operators
    assert ("com.example", "Mystery") in operators


def test_an_operator_that_the_file_defines_is_not_foreign(data: Path) -> None:
    operators = read_header((data / "function.onnx").read_bytes()).foreign_operators
    assert {domain for domain, _ in operators} == {""}


EXTERNAL_TENSOR = field(8, b"w") + field(14, 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(model(field(5, EXTERNAL_TENSOR)), id="initializer"),
        pytest.param(model(field(5, field(13, b""))), id="location only"),
        pytest.param(model(field(5, field(14, 2**32 + 1))), id="enum beyond 32 bits"),
        pytest.param(model(field(15, field(1, EXTERNAL_TENSOR))), id="sparse initializer"),
        pytest.param(model(field(1, field(5, field(5, EXTERNAL_TENSOR)))), id="attribute"),
        pytest.param(model(field(1, field(5, field(10, EXTERNAL_TENSOR)))), id="attribute list"),
        pytest.param(model(field(1, field(5, field(22, field(2, EXTERNAL_TENSOR))))), id="sparse attribute"),
        pytest.param(model(field(1, field(5, field(6, field(5, EXTERNAL_TENSOR))))), id="subgraph"),
        pytest.param(model(b"", field(7, field(5, EXTERNAL_TENSOR))), id="second graph field"),
        pytest.param(
            model(b"", field(25, field(7, field(5, field(5, EXTERNAL_TENSOR))))), id="function body"
        ),
        pytest.param(model(b"", field(20, field(1, field(5, EXTERNAL_TENSOR)))), id="training graph"),
    ],
)
def test_external_data_is_seen_wherever_it_hides(data: bytes) -> None:
    assert read_header(data).external_data


def test_an_input_that_is_an_initializer_is_a_constant() -> None:
    graph = field(11, field(1, b"image")) + field(11, field(1, b"w")) + field(5, field(8, b"w"))
    assert [info.name for info in read_header(model(graph)).inputs] == ["image"]


def nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return model(graph)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "no ONNX graph", id="empty"),
        pytest.param(b"\x00" * 64, "no ONNX graph", id="zeros"),
        pytest.param(b"<html></html>", "wire type|middle of", id="HTML"),
        pytest.param(b"PK\x03\x04" + bytes(60), "no ONNX graph|wire type|middle of", id="zip"),
        pytest.param(field(1, 10), "no ONNX graph", id="no graph"),
        pytest.param(field(7, b""), "no ONNX graph", id="no IR version"),
        pytest.param(b"\x80" * 11, "longer than 64 bits", id="endless varint"),
        pytest.param(b"\x80", "middle of a number", id="cut varint"),
        pytest.param(field(1, 10) + b"\x3a\x7f", "middle of a field", id="cut message"),
        pytest.param(field(1, 10) + b"\x3a" + varint(2**63), "middle of a field", id="huge length"),
        pytest.param(field(1, 10) + b"\x3b", "wire type 3", id="group"),
        pytest.param(
            model(field(2**29 + 5, b"")), "field number is out of range", id="overlong field number"
        ),
        pytest.param(field(1, 10) + field(7, 5), "number stands", id="number for graph"),
        pytest.param(model(field(1, field(7, b"\xff\xfe"))), "not UTF-8", id="domain is not UTF-8"),
        pytest.param(nested(40), "nested more than", id="nested subgraphs"),
        pytest.param(
            field(1, 10) + field(3, 0) * 2_100_000, "more than 2000000 fields", id="millions of fields"
        ),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_header(data)


@given(st.binary(max_size=400))
@example(b"\x08\x0a\x3a\x00")
def test_any_bytes_give_a_header_or_a_value_error(data: bytes) -> None:
    try:
        read_header(data)
    except ValueError:
        return


@given(st.data())
def test_a_damaged_model_gives_a_header_or_a_value_error(data: st.DataObject) -> None:
    original = bytearray((DATA / "bad_foreign_subgraph.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 10))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(original)))
    try:
        read_header(bytes(original[:cut]))
    except ValueError:
        return
