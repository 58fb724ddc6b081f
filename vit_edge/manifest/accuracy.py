"""What the manifest records of the proof that the INT8 models answer as the float model does."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from vit_edge.gate_report import GateReport
from vit_edge.plain import Mark
from vit_edge.spec import Tolerance


@dataclasses.dataclass(frozen=True)
class CheckData:
    """The images that the models were judged on."""

    name: str
    """Of their folder."""
    images: int
    labelled: bool
    held_out_of_calibration: bool
    """They were taken from the images given for calibration, which then did not use them."""
    calibration_images_left_out: int
    """As they are among the check images, too."""
    copies_left_out: int
    """Images that repeat another one."""
    scenes: int
    """That count as one image each."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far two forms of a model lie apart on the same images."""

    largest: float
    """Largest difference of a logit."""
    allowed: float
    images: int

    def __str__(self) -> str:
        return (
            f"max |logit difference| {self.largest:.1e} on {self.images} images (allowed {self.allowed:.1e})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyRecord:
    """The verdict on the INT8 model that runs by default, or that is preferred where none does."""

    report: Annotated[GateReport, Mark.FLAT]
    model: str
    """Path of the file that it is about."""
    reference: str
    """Path of the float model that it was compared with."""
    data: CheckData
    tolerance: Tolerance
    notes: tuple[str, ...]
    """Warnings about the float model itself: far below what is expected, and the like."""
    models: Mapping[str, GateReport]
    """The same for every INT8 file, by path."""
    parity: Mapping[str, Parity]
    """Of each step from the source to the float model: `export`, `rewrite`, `embedder`."""
