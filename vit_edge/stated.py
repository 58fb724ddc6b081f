"""What a user states about preprocessing, as options of the command line or of a source."""

import dataclasses
import math

from vit_edge.errors import UsageError
from vit_edge.fields import settle_members
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

Triple = tuple[float, float, float]
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """From an image of any size to the one that the model sees; fields as in PreprocessSpec."""

    height: int
    width: int
    resize_mode: ResizeMode
    resize: Size


@dataclasses.dataclass(frozen=True)
class StatedPreprocess:
    """Whatever is set was stated.

    `crop_pct` and `resize_mode` describe the geometry together. The image is resized to
    floor(size / crop_pct), crop_pct being 1 if only the mode is given, so that it just covers that unless the
    mode says otherwise, and the centre is cropped: timm's evaluation transform.

    Raises:
        UsageError: a value that cannot be honoured.
    """

    image_size: Size | None = None  # pixels (height, width)
    mean: Triple | None = None  # RGB, of values in [0, 1]
    std: Triple | None = None
    interpolation: Interpolation | None = None
    crop_pct: float | None = None  # share of the resized image's side that the crop keeps
    resize_mode: ResizeMode | None = None
    crop_rule: CropRule | None = None  # how an odd margin is halved

    def __post_init__(self) -> None:
        """Refuse values that no image can have."""
        try:
            settle_members(self)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if self.image_size is not None and not all(1 <= side <= 4096 for side in self.image_size):
            raise UsageError(f"image_size must be 1 to 4096 pixels, got {self.image_size}")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise UsageError(f"crop_pct must be above 0 and at most 1, got {self.crop_pct}")
        if self.crop_pct is not None and self.resize_mode is ResizeMode.NONE:
            raise UsageError("crop_pct has no meaning with resize_mode none: leave one of them out")
        if self.std is not None and not all(deviation > 0 for deviation in self.std):
            raise UsageError(f"std must be positive, got {self.std}")

    @property
    def says_something(self) -> bool:
        """Whether anything was stated."""
        return any(getattr(self, field.name) is not None for field in dataclasses.fields(self))

    def geometry(self, size: Size) -> Geometry | None:
        """The stated geometry for a model that sees `size` (height, width); None where none was stated."""
        if self.crop_pct is None and self.resize_mode is None:
            return None
        mode = self.resize_mode or (ResizeMode.SHORT_SIDE if size[0] == size[1] else ResizeMode.COVER)
        share = self.crop_pct or 1.0
        resize = (math.floor(size[0] / share), math.floor(size[1] / share))
        if mode is ResizeMode.SHORT_SIDE:
            resize = (max(resize), max(resize))  # covers the crop whatever the image's aspect ratio
        return Geometry(size[0], size[1], mode, resize)

    def over(self, other: "StatedPreprocess") -> "StatedPreprocess":
        """Both together; what is set here wins."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(other, **{name: value for name, value in own.items() if value is not None})

    def replacing(self, spec: PreprocessSpec, size: Size) -> PreprocessSpec:
        """A known recipe with what is stated in place of its own.

        Args:
            spec: the recipe.
            size: pixels (height, width) that the model sees; another than the recipe's needs a geometry.

        Raises:
            ValueError: the sizes do not fit; the message names the options.
        """
        geometry = self.geometry(size)
        if geometry is not None:
            spec = dataclasses.replace(spec, **dataclasses.asdict(geometry))
        if (spec.height, spec.width) != size:
            raise ValueError("--crop-pct or --resize-mode")
        return dataclasses.replace(
            spec,
            mean=self.mean or spec.mean,
            std=self.std or spec.std,
            interpolation=self.interpolation or spec.interpolation,
            crop=self.crop_rule or spec.crop,
        )

    def complete(self, size: Size) -> PreprocessSpec:
        """The recipe for a model of which nothing else is known.

        Args:
            size: pixels (height, width) that it sees.

        Raises:
            ValueError: something is missing; the message lists the names of what is.
        """
        geometry = self.geometry(size)
        if self.mean is None or self.std is None or self.interpolation is None or geometry is None:
            given = {"mean": self.mean, "std": self.std, "interpolation": self.interpolation}
            lacking = [f"--{name}" for name, value in given.items() if value is None]
            lacking += ["--crop-pct or --resize-mode"] if geometry is None else []
            raise ValueError(", ".join(lacking))
        return PreprocessSpec(
            geometry.height,
            geometry.width,
            geometry.resize_mode,
            geometry.resize,
            self.interpolation,
            self.mean,
            self.std,
            self.crop_rule or CropRule.TORCHVISION,
        )


UNSTATED = StatedPreprocess()
