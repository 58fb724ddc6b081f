"""A bounded reader of the protobuf wire format (https://protobuf.dev/programming-guides/encoding).

Contents are stepped over, not copied. Any byte string gives fields or a ValueError; `_MAX_FIELDS` bounds the
work.
"""

from collections.abc import Iterator

_MAX_FIELDS = 2_000_000
_MAX_KEY = 2**32  # onnxruntime's reader drops the bits above, so a field could pass for another one
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) do not occur in ONNX

Field = tuple[int, int | memoryview]


class WireReader:
    """The fields of messages within messages; one budget for the whole file."""

    def __init__(self) -> None:
        self.left = _MAX_FIELDS

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


def message(value: int | memoryview) -> memoryview:
    """The bytes of a field.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where a message must be")
    return value


def enum_number(value: int | memoryview) -> int:
    """An enum's number: protobuf keeps the low 32 bits."""
    return value & 0xFFFFFFFF if isinstance(value, int) else 0


def text(value: int | memoryview) -> str:
    """The string of a field.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        return str(message(value), "utf-8")
    except UnicodeDecodeError:
        raise ValueError("a name is not UTF-8") from None
