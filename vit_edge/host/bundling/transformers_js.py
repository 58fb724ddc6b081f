"""What transformers.js makes of a bundle that it opens by itself, as it was measured: for the card.

`transformers_js.json` is written by `python -m tools.card_figures`.
"""

import dataclasses
import functools
import importlib.resources
import json

from vit_edge import plain

FIGURES = "transformers_js.json"


@dataclasses.dataclass(frozen=True)
class Closeness:
    """One file's answers beside Python's."""

    same_label: int  # images
    largest_probability_difference: float


@dataclasses.dataclass(frozen=True)
class TransformersJs:
    """A run of it on photos."""

    version: str
    model: str
    images: int
    float: Closeness
    int8: Closeness

    @property
    def sentence(self) -> str:
        """For the card."""
        found = (
            f"{each.same_label} of {self.images} labels are Python's with the {name} file, probabilities "
            f"differ by up to {each.largest_probability_difference:g}"
            for name, each in (("float", self.float), ("INT8", self.int8))
        )
        return f"{self.version} on {self.images} photos with {self.model}: {'; '.join(found)}."


def read_figures(text: str) -> TransformersJs:
    """What a file of such figures holds.

    Raises:
        ValueError: it holds none; the message names the key.
    """
    return plain.read(TransformersJs, json.loads(text), FIGURES)


def to_text(figures: TransformersJs) -> str:
    """The file that `read_figures` reads."""
    return json.dumps(plain.of(figures), indent=1, allow_nan=False) + "\n"


@functools.cache
def measured() -> TransformersJs:
    """The figures that this version knows."""
    found = importlib.resources.files(__package__).joinpath(FIGURES)
    return read_figures(found.read_text(encoding="utf-8"))
