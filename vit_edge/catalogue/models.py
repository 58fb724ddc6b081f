"""The records of measured models, and where they are found."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from typing import Annotated

from vit_edge import plain
from vit_edge.manifest import Machine
from vit_edge.plain import Mark
from vit_edge.spec import Tolerance, Verdict


@dataclasses.dataclass(frozen=True)
class FileFigures:
    """One model file of a bundle, judged and timed."""

    path: str
    """In the bundle."""
    sha256: Annotated[str, Mark.SHA256]
    size_mb: float
    """10^6 bytes."""
    verdict: Verdict | None
    """None: the float reference."""
    top1: float | None
    """In percent; None without labels."""
    agreement: float | None
    """With float, in percent; None: the float reference."""
    sqnr_db: float | None
    """Of the logits; None: the float reference."""
    ratio: float | None
    """Of its latency to that of float; None where it was not timed."""
    ratio_interval: tuple[float, float] | None
    """At 95 %."""
    cosine: Annotated[float | None, Mark.OMITTED] = None
    """Of a model of embeddings: mean cosine with float's."""
    recall_at_10: Annotated[float | None, Mark.OMITTED] = None
    """Of a model of embeddings: percent of float's ten nearest neighbours that are found."""

    @property
    def answers(self) -> str:
        """How its answers agree with float's, in words; empty of the float reference."""
        if self.cosine is not None and self.recall_at_10 is not None:
            return f"cosine {self.cosine:.4f}, recall@10 {self.recall_at_10:.1f} %"
        return "" if self.agreement is None else f"agreement {self.agreement:.1f} %"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One bundle as it was built on one machine."""

    data: str
    """Name of the folder of check images."""
    images: int
    labelled: bool
    machine: Machine
    versions: Mapping[str, str]
    files: tuple[FileFigures, ...]
    """The float reference first."""
    tolerance: Annotated[Tolerance, Mark.OMITTED] = dataclasses.field(default_factory=Tolerance)
    """That the verdicts hold for."""

    @property
    def asked(self) -> str:
        """The options that set another tolerance than the default; empty where none did."""
        usual = Tolerance()
        return ", ".join(
            f"--{name.replace('_', '-')} {getattr(given, name):g}"
            for given, default in ((self.tolerance, usual), (self.tolerance.maps, usual.maps))
            for name in (field.name for field in dataclasses.fields(given))
            if isinstance(getattr(given, name), float) and getattr(given, name) != getattr(default, name)
        )

    @property
    def on(self) -> str:
        """The processor, with the instruction sets that decide which integer kernel runs."""
        return f"{self.machine.cpu} ({', '.join(self.machine.flags) or 'instruction sets not known'})"


@dataclasses.dataclass(frozen=True)
class KnownModel:
    """A checkpoint that was built and measured, once or on several machines."""

    slug: str
    """Of its folder in `models/`."""
    name: str
    licence: str
    source_sha256: Annotated[str, Mark.SHA256]
    """As `vit-edge inspect` shows it of the checkpoint; a bundle and its files record the same."""
    measured: tuple[Measured, ...]

    def figures(self, sha256s: Iterable[str]) -> list["Figure"]:
        """One for each measurement: of an INT8 file with one of these hashes, else of the portable one."""
        wanted = set(sha256s)
        return [_figure(each, wanted) for each in self.measured]


@dataclasses.dataclass(frozen=True)
class Figure:
    """What was measured of one file, as a sentence."""

    told: str
    itself: bool
    """Of a file that was asked for, not only of another that was built of the same checkpoint."""


@dataclasses.dataclass(frozen=True)
class _Catalogue:
    models: tuple[KnownModel, ...]


def read_models(text: str) -> tuple[KnownModel, ...]:
    """What a catalogue holds.

    Raises:
        ValueError: it is no catalogue; the message names the key.
    """
    return plain.read(_Catalogue, json.loads(text), "the catalogue").models


def to_text(models: tuple[KnownModel, ...]) -> str:
    """The file that `read_models` reads."""
    return json.dumps(plain.of(_Catalogue(models)), indent=1, allow_nan=False) + "\n"


@functools.cache
def known_models() -> tuple[KnownModel, ...]:
    """All that this version knows."""
    found = importlib.resources.files(__package__).joinpath("models.json")
    return read_models(found.read_text(encoding="utf-8"))


def find(sha256s: Iterable[str]) -> KnownModel | None:
    """The model whose checkpoint or one of whose files has one of these SHA-256; None where none is known."""
    wanted = set(sha256s)
    return next((model for model in known_models() if wanted & _hashes(model)), None)


def _hashes(model: KnownModel) -> set[str]:
    files = {file.sha256 for each in model.measured for file in each.files}
    return {model.source_sha256} | files


def _figure(each: Measured, wanted: set[str]) -> Figure:
    judged = each.files[1:]
    asked = next((file for file in judged if file.sha256 in wanted), None)
    return Figure(_sentence(each, asked or judged[0]), asked is not None)


def _sentence(each: Measured, file: FileFigures) -> str:
    reference = each.files[0]
    verdict = "" if file.verdict is None else f"{file.verdict.value}: "
    if file.top1 is None or reference.top1 is None:
        answers = file.answers
    else:
        answers = f"top-1 {reference.top1:.1f} -> {file.top1:.1f} %, {file.answers}"
    time = "" if file.ratio is None else f", {file.ratio:.2f} of float's time"
    images = f"{each.images} images of {each.data}" + (f", {each.asked}" if each.asked else "")
    return f"{file.path}, {verdict}{answers}{time} ({images}, {each.on})"
