"""A bounded sample of rows that is the same in whatever order and division the images come.

Which rows of an image come first is decided by the image alone: its first row (the CLS token), its most
extreme row, then a random order seeded by its hash. Every image gives equally many rows. Of more images than
MOST_IMAGES those with the smallest hashes take part, so a part never drops what the whole would have kept.
This needs every image to have the same number of rows, which holds for a ViT of one input size. Where it is
known how many images there will be, no more rows are kept of each than will be left in the end.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from vit_edge.arrays import Float32

SAMPLE_ROWS = 2048  # rows kept per activation, whatever the number of images
MOST_IMAGES = 256


@dataclasses.dataclass
class RowSample:
    """Rows by image, each image's in their order of preference."""

    blocks: list[tuple[int, Float32]] = dataclasses.field(default_factory=list)  # (hash, (rows, channels))
    each: int | None = None  # rows of an image that are kept at most; None: as many as all images may

    def add(self, key: int, values: Float32) -> None:
        """Take in the activation (rows, channels) of the image with this 63 bit hash."""
        if len(self.blocks) >= MOST_IMAGES and key > max(block[0] for block in self.blocks):
            return
        self.blocks.append((key, values[_preferred(key, values)[: self.each]]))
        if sum(len(rows) for _, rows in self.blocks) > 2 * SAMPLE_ROWS or len(self.blocks) > MOST_IMAGES:
            self.blocks = self.trimmed()

    def merged(self, other: "RowSample") -> "RowSample":
        """The sample of the images of both."""
        return RowSample(RowSample([*self.blocks, *other.blocks]).trimmed(), self.each)

    def trimmed(self) -> list[tuple[int, Float32]]:
        """At most SAMPLE_ROWS rows of at most MOST_IMAGES images, in the order of their hashes."""
        blocks = sorted(self.blocks, key=lambda block: block[0])[:MOST_IMAGES]
        share, left = divmod(SAMPLE_ROWS, max(len(blocks), 1))
        quotas = (share + (place < left) for place in range(len(blocks)))
        return [
            (key, rows[:quota].copy()) for (key, rows), quota in zip(blocks, quotas, strict=True)
        ]  # copies, or the dropped rows would stay in memory

    def rows(self) -> Float32:
        """All of it, (rows, channels)."""
        return np.concatenate([rows for _, rows in self.trimmed()])


def rows_of_each(images: int) -> int:
    """How many rows of an image a sample of so many images can hold in the end."""
    return -(-SAMPLE_ROWS // min(max(images, 1), MOST_IMAGES))


def _preferred(key: int, values: Float32) -> npt.NDArray[np.int64]:
    """At most SAMPLE_ROWS rows of an image, those to be kept longest first."""
    extreme = int(np.abs(values).max(axis=1).argmax())
    others = np.random.default_rng(key).permutation(len(values))
    first = [0] if extreme == 0 else [0, extreme]
    return np.concatenate([first, others[~np.isin(others, first)]])[:SAMPLE_ROWS]
