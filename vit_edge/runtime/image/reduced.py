"""An image that is decoded, perhaps at a fraction of its resolution, and still lies as in its file."""

import dataclasses

from PIL import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """What turns an image upright, and how the upright picture lies in the file."""

    transpose: Image.Transpose
    swaps: bool  # the file's rows are the upright picture's columns
    mirrors_x: bool  # the file's x axis runs against that axis of the upright picture which lies along it
    mirrors_y: bool


TURNS = {  # by EXIF orientation; 1 is upright
    2: Turn(Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: Turn(Image.Transpose.ROTATE_180, False, True, True),
    4: Turn(Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: Turn(Image.Transpose.TRANSPOSE, True, False, False),
    6: Turn(Image.Transpose.ROTATE_270, True, False, True),
    7: Turn(Image.Transpose.TRANSVERSE, True, True, True),
    8: Turn(Image.Transpose.ROTATE_90, True, True, False),
}


def along(size: tuple[int, int], turn: Turn | None) -> tuple[int, int]:
    """A (width, height) from the file's axes to the upright picture's, or back: the same swap or none."""
    return size[::-1] if turn is not None and turn.swaps else size


@dataclasses.dataclass(frozen=True, slots=True)
class Reduced:
    """An image decoded at full resolution or at a fraction of it, and not yet turned upright."""

    image: Image.Image  # RGB
    box: Box  # the picture in `image`
    size: tuple[int, int]  # pixels (width, height) of the whole picture, as it lies in the file
    turn: Turn | None  # None: it lies upright

    @property
    def upright_size(self) -> tuple[int, int]:
        """Pixels (width, height) of the whole picture, upright."""
        return self.along(self.size)

    def along(self, size: tuple[int, int]) -> tuple[int, int]:
        """As the function of that name, by this picture's turn."""
        return along(size, self.turn)

    def located(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Where in `image` a part of the upright picture lies."""
        width, height = self.size
        if self.turn is not None:
            if self.turn.swaps:
                left, top, right, bottom = top, left, bottom, right
            if self.turn.mirrors_x:
                left, right = width - right, width - left
            if self.turn.mirrors_y:
                top, bottom = height - bottom, height - top
        x, y = self.box[2] / width, self.box[3] / height
        return max(left * x, 0), max(top * y, 0), min(right * x, self.box[2]), min(bottom * y, self.box[3])

    def turned(self, image: Image.Image) -> Image.Image:
        """An image that lies as this one does, upright."""
        return image if self.turn is None else image.transpose(self.turn.transpose)
