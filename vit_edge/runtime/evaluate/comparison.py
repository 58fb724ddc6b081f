"""What a comparison of two models found."""

import dataclasses
from typing import Any

import numpy as np

from vit_edge.gate_report import GateReport
from vit_edge.runtime.evaluate.answers import Logits
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.looks import looks_json
from vit_edge.runtime.evaluate.views import Copies
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import OutputKind
from vit_edge.verify import Flip, find_changes
from vit_edge.verify.looks import Looked, LookPlace


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images: the verdict, and the logits that it rests on."""

    report: GateReport
    images: ImageSet
    """Those that were run, in the order of the rows."""
    available: int
    """Images there were; more than were run where a sequential comparison stopped early."""
    labels: tuple[str, ...] | None
    """Class names in index order, where either model carries them."""
    float_logits: Logits
    """(N, C); of maps two columns, see `verify.maps.changed_maps`."""
    quant_logits: Logits
    """(N, C), likewise."""
    copies: Copies | None = None
    """Among all images that were run; None where nobody looked for them."""
    place: LookPlace | None = None
    """Among all looks at these models."""
    history: tuple[Looked, ...] = ()
    """Looks at these models, this one the last or as it was before."""
    stopped: bool = False
    """Images came in random order until they decided."""
    models: tuple[ModelFile, ModelFile] | None = None
    """Float and quantized."""
    notes: tuple[str, ...] = ()
    """On the float model itself."""
    kind: OutputKind = OutputKind.SINGLE_LABEL
    """The task of both models."""

    @property
    def pair(self) -> tuple[str, str]:
        """SHA-256 of both models; empty texts where they are no files."""
        return ("", "") if self.models is None else (self.models[0].sha256, self.models[1].sha256)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """The images whose prediction changed, with the three likeliest classes of both models."""
        return find_changes(self.kind, self.float_logits, self.quant_logits)

    def class_name(self, index: int) -> str:
        """The label of a class; its index where the models carry none."""
        return str(index) if self.labels is None else self.labels[index]

    def truth(self, row: int) -> str | None:
        """What is true of an image: its class, or its labels; None where that is not known."""
        targets = self.images.targets
        if targets is None:
            return None
        if self.kind.task is OutputKind.SINGLE_LABEL:
            return self.class_name(int(targets[row]))
        if self.kind is OutputKind.MULTI_LABEL:
            return "; ".join(self.class_name(int(index)) for index in np.flatnonzero(targets[row]))
        return "; ".join(f"{value:g}" for value in targets[row])

    def to_json(self) -> dict[str, Any]:
        """What `vit-edge compare --json` writes: the gate's keys, and more under `evidence`."""
        raw = self.report.to_json()
        raw["evidence"] |= {
            "images_available": self.available,
            "flips": [self._flip_json(flip) for flip in self.flips],
            "copies": None if self.copies is None else self.copies.to_json(),
            "look": None if self.place is None else dataclasses.asdict(self.place),
            "notes": list(self.notes),
            "history": looks_json(self.pair, self.history),
            "models": None if self.models is None else [named(model) for model in self.models],
        }
        return raw

    def _flip_json(self, flip: Flip) -> dict[str, Any]:
        return {
            "image": self.images.paths[flip.row].as_posix(),
            "label": self.truth(flip.row),
            **{
                model: [
                    {"label": self.class_name(each.index), "probability": each.probability} for each in top
                ]
                for model, top in (("float", flip.float_top), ("quant", flip.quant_top))
            },
        }


def named(model: ModelFile) -> dict[str, str]:
    """Which file it is, for JSON."""
    return {"path": model.path.as_posix(), "sha256": model.sha256}
