"""What a compiler is given."""

import dataclasses
from pathlib import Path

import onnx

from vit_edge.host.hybrid.choose import Choice
from vit_edge.host.hybrid.reaches import Feeds
from vit_edge.spec import TargetSpec


@dataclasses.dataclass(frozen=True, eq=False)
class CompilerJob:
    """One file to compile."""

    graph: onnx.ModelProto
    """The target's float file, for one image."""
    feeds: Feeds
    """What it takes, of each calibration image."""
    choice: Choice
    """Types of its products and ranges of its tensors."""
    target: TargetSpec
    python: Path
    """The interpreter of the compiler's environment."""
    folder: Path
    """For what it writes."""
