"""From a quantization to the INT8 files of a bundle, and to what the gate says of them."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from vit_edge.host.bundling.proof import Gate
from vit_edge.host.bundling.repair import Trial
from vit_edge.host.convert.int8 import quantized
from vit_edge.host.convert.onnx_io import to_bytes
from vit_edge.host.quantize.types import Quantization
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.sources import Source
from vit_edge.manifest import Role
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.spec import TargetSpec, Tolerance


@dataclasses.dataclass(frozen=True)
class FileWanted:
    """One INT8 file of the bundle."""

    name: str
    """Path in the bundle."""
    role: Role
    target: TargetSpec


class Tester:
    """Writes the files of one quantization after another, each in a folder of its own, and judges them.

    Args:
        canonical: the model, folded by the search that made the quantizations.
        source: what it came from.
        wanted: the files of each quantization.
        gate: the check images.
        folder: for the files.
    """

    def __init__(
        self, canonical: Canonical, source: Source, wanted: Sequence[FileWanted], gate: Gate, folder: Path
    ) -> None:
        self.canonical, self.source, self.wanted = canonical, source, wanted
        self.gate, self.folder, self.count = gate, folder, 0

    def trial(
        self,
        name: str,
        quantization: Quantization,
        tolerance: Tolerance,
        wanted: Collection[str] | None = None,
        canonical: Canonical | None = None,
    ) -> Trial:
        """Write and judge one quantization: all its files, or those with the names that are wanted.

        With `canonical` it is written in this model in place of the tester's, which has the same layers.
        """
        self.count += 1
        folder = self.folder / str(self.count)
        chosen = [each for each in self.wanted if wanted is None or each.name in wanted]
        model = self.canonical if canonical is None else canonical
        files = {each.name: self._written(folder, each, quantization, model) for each in chosen}
        comparisons = self.gate.judge(list(files.values()), tolerance)
        judged = dict(zip(files, comparisons, strict=True))
        return Trial(name, quantization, files, judged, model.merging)

    def _written(
        self, folder: Path, wanted: FileWanted, quantization: Quantization, canonical: Canonical
    ) -> ModelFile:
        model = quantized(canonical, quantization, wanted.target, self.source)
        return on_disk(folder / wanted.name, to_bytes(model, wanted.name))


def on_disk(path: Path, data: bytes) -> ModelFile:
    """A model file that was just made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return read_model(path)
