"""The boxes that JPEG 2000 and AVIF files are made of (ISO/IEC 14496-12)."""

from collections.abc import Iterator

from vit_edge.runtime.image.too_much import TooMuch

_MOST_BOXES = 1000  # within one another or one after another; Pillow goes through them in Python
Box = tuple[bytes, int, int]  # (type, where its content starts, where it ends)


def boxes_in(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes of a part of a file, one after another.

    Raises:
        TooMuch: there are too many.
    """
    count = 0
    while start + 8 <= end:
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        content = start + 8
        if size == 1:
            size, content = int.from_bytes(data[content : content + 8], "big"), content + 8
        elif size == 0:
            size = end - start
        if start + size < content:
            return
        count += 1
        if count > _MOST_BOXES:
            raise TooMuch(f"has more than {_MOST_BOXES} boxes")
        yield kind, content, min(start + size, end)
        start += size


def count_within(data: bytes, start: int, end: int, wanted: bytes) -> None:
    """Refuse too many boxes within a box, or within those of one kind in it."""
    for kind, first, last in boxes_in(data, start, end):
        if kind == wanted:
            list(boxes_in(data, first, last))
