"""What a model of maps says of one image, on the pixels of that image."""

import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.errors import UsageError

Floats = npt.NDArray[np.float32]

UNSEEN = -1  # in a mask, what the crop of the preprocessing cut off
_GOLDEN = 0.61803398875  # of a turn of hue from one class to the next: neighbours differ


@dataclasses.dataclass(frozen=True)
class Share:
    """How much of what the model saw of an image is of one class."""

    label: str
    """Its index where the file has no labels."""
    index: int
    share: float
    """0 to 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Maps of one image, as the model gives them, and where on the image they lie."""

    maps: dict[str, Floats]
    """Each output, (channels, rows, columns) or whatever else its shape is; the first is the one shown."""
    size: tuple[int, int]
    """Pixels (height, width) of the upright image."""
    box: tuple[float, float, float, float]
    """What of it the model saw, (left, top, right, bottom) in its pixels; may reach beyond it."""
    labels: tuple[str, ...] | None
    """One per channel."""

    @property
    def map(self) -> Floats:
        """The first output, (channels, rows, columns)."""
        return next(iter(self.maps.values()))

    @property
    def channels(self) -> int:
        """Of the first output."""
        return len(self.map)

    def scores(self, channel: int = 0) -> Floats:
        """One channel at the image's own size, between the model's places by bilinear interpolation.

        Args:
            channel: 0 to `channels` - 1.

        Returns:
            float32 (height, width); NaN where the model did not look.

        Raises:
            UsageError: there is no such channel.
        """
        if not 0 <= channel < self.channels:
            raise UsageError(f"channel must be 0 to {self.channels - 1}, got {channel}")
        left, top, right, bottom = self.box
        _, rows, columns = self.map.shape
        down, across = _places(self.size[0], top, bottom, rows), _places(self.size[1], left, right, columns)
        # rows are enlarged first: of columns there are then as few as the model has
        tall = _between(self.map[channel], down, axis=0)
        found = _between(tall, across, axis=1)
        found[~down.seen] = np.nan
        found[:, ~across.seen] = np.nan
        return found

    def mask(self, threshold: float = 0.5) -> npt.NDArray[np.int32]:
        """The class of each pixel of the image.

        Args:
            threshold: of a single channel, above which a pixel is 1 and else 0.

        Returns:
            int32 (height, width); of several channels the index of the largest. UNSEEN where the model did
            not look.
        """
        best = self.scores(0)
        unseen = np.isnan(best)
        if self.channels == 1:
            chosen = (best > threshold).astype(np.int32)
        else:
            chosen = np.zeros(self.size, np.int32)
            for channel in range(1, self.channels):
                scores = self.scores(channel)
                better = scores > best
                chosen[better] = channel
                np.copyto(best, scores, where=better)
        chosen[unseen] = UNSEEN
        return chosen

    def shares(self, mask: npt.NDArray[np.int32]) -> tuple[Share, ...]:
        """The classes that a mask of this image shows, the largest first.

        Args:
            mask: from `mask`.
        """
        counts = np.bincount(mask[mask != UNSEEN])
        total = max(int(counts.sum()), 1)
        found = np.flatnonzero(counts)[np.argsort(-counts[counts > 0], kind="stable")]
        return tuple(Share(self.label(i), i, float(counts[i] / total)) for i in found.tolist())

    def label(self, index: int) -> str:
        """What a class is called; of a single channel there are two, 0 and 1, without names."""
        return str(index) if self.labels is None or self.channels == 1 else self.labels[index]

    def drawn(self, image: Image.Image, strength: float = 0.5) -> Image.Image:
        """The image with its mask (of a single channel, its scores) laid over it in colour.

        Args:
            image: RGB, upright, of the size that was segmented.
            strength: of the colours, 0 to 1.

        Raises:
            UsageError: the image is of another size.
        """
        if (image.height, image.width) != self.size:
            raise UsageError(f"the image has {image.height} x {image.width} pixels, not {self.size}")
        under = np.asarray(image.convert("RGB"), np.float32)
        if self.channels == 1:
            scores = self.scores()
            low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
            share = np.nan_to_num((scores - low) / ((high - low) or 1.0), nan=0.0)[..., None] * strength
            over = np.asarray([255.0, 64.0, 0.0], np.float32)
        else:
            mask = self.mask()
            over = _colours(self.channels)[mask]
            share = np.where(mask == UNSEEN, 0.0, strength)[..., None]
        mixed = under * (1.0 - share) + over * share
        return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


@dataclasses.dataclass(frozen=True, eq=False)
class _Places:
    """Along one side: between which of the model's places each pixel lies, and how far from the first."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    share: Floats
    seen: npt.NDArray[np.bool_]


def _places(pixels: int, start: float, stop: float, count: int) -> _Places:
    centres = np.arange(pixels) + 0.5
    at = np.clip((centres - start) / (stop - start) * count - 0.5, 0.0, count - 1.0)
    first = np.floor(at).astype(np.intp)
    seen = (centres >= start) & (centres <= stop)
    return _Places(first, np.minimum(first + 1, count - 1), (at - first).astype(np.float32), seen)


def _between(values: Floats, places: _Places, axis: int) -> Floats:
    share = places.share[:, None] if axis == 0 else places.share[None]
    one, other = (np.take(values, at, axis=axis) for at in (places.first, places.second))
    return np.asarray(one + (other - one) * share, np.float32)


def _colours(count: int) -> Floats:
    """(count, 3) RGB, 0 to 255."""
    hues = [int(255 * (index * _GOLDEN % 1.0)) for index in range(count)]
    return np.asarray([_rgb(hue) for hue in hues], np.float32)


def _rgb(hue: int) -> tuple[int, ...]:
    colour = Image.new("HSV", (1, 1), (hue, 220, 255)).convert("RGB").getpixel((0, 0))
    assert isinstance(colour, tuple)  # noqa: S101  of an RGB image
    return tuple(int(each) for each in colour)
