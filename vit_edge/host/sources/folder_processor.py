"""What the image processor in a Hugging Face folder says, and what becomes of it in a bundle."""

import dataclasses
from pathlib import Path
from typing import Any

from vit_edge.host.sources.preprocessing import (
    from_processor,
    processor_notes,
    rule_notes,
    size_notes,
    to_processor,
)
from vit_edge.host.sources.processors import processor_of
from vit_edge.host.sources.types import SourceOptions
from vit_edge.spec import PreprocessSpec


@dataclasses.dataclass(frozen=True)
class FolderProcessor:
    """The image processor of a folder; all empty where there is none."""

    config: dict[str, Any] | None = None
    """As the file has it."""
    spec: PreprocessSpec | None = None
    """The same in numbers."""
    notes: tuple[str, ...] = ()
    """What had to be decided because the file leaves it open."""

    @classmethod
    def of(cls, folder: Path, model_type: str) -> "FolderProcessor":
        """Read it.

        Args:
            folder: of the model.
            model_type: whose processor holds where the file names none.

        Raises:
            SourceError: a processor that is not known, or a malformed value.
        """
        config, stated_in = processor_of(folder)
        if config is None:
            return cls()
        spec = from_processor(config, stated_in, model_type)
        return cls(config, spec, processor_notes(config, Path(stated_in).name, model_type))

    def published(self, used: PreprocessSpec, options: SourceOptions) -> dict[str, Any]:
        """The config that a bundle carries: the folder's own, where options change nothing of it."""
        if self.config is None or options.changes_preprocessing:
            return to_processor(used)
        return self.config

    def decided(self, used: PreprocessSpec, options: SourceOptions) -> tuple[str, ...]:
        """A sentence for everything about `used` that neither the folder nor the options state."""
        open_left = rule_notes(used, options) if self.config is None else self.notes
        return *open_left, *size_notes(self.spec, used, options)
