"""Where models are made once: making one takes minutes, so an interrupted comparison goes on where it was."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vit_edge
from vit_edge.host.sources import Source

INFO = "info.json"
PACKAGE = Path(vit_edge.__file__).parent


@dataclasses.dataclass(frozen=True)
class Made:
    """Files of one quantization, and what is to be said about how they were made."""

    files: Mapping[str, bytes]
    info: dict[str, Any] = dataclasses.field(default_factory=dict)  # plain JSON


class Workshop:
    """A folder of models, each under a digest of its recipe, so that no other recipe's model is taken for it.

    Args:
        folder: made where it does not exist.
        basis: what all recipes share: model, calibration images, preprocessing.
    """

    def __init__(self, folder: Path, basis: Mapping[str, Any]) -> None:
        self.folder, self.basis = folder, dict(basis)
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, recipe: Mapping[str, Any]) -> bool:
        """Whether the files of `recipe` are there."""
        return self._place(recipe).is_dir()

    def make(self, recipe: Mapping[str, Any], build: Callable[[], Made]) -> tuple[Path, dict[str, Any]]:
        """The folder with the files of `recipe` and their info, built where they are not there yet.

        Args:
            recipe: plain JSON that decides the result, with a "name".
            build: makes the files.
        """
        place = self._place(recipe)
        if not place.is_dir():
            started = time.monotonic()
            made = build()
            info = made.info | {"seconds_to_make": round(time.monotonic() - started, 1)}
            draft = Path(tempfile.mkdtemp(dir=self.folder, prefix=".draft-"))
            try:
                for name, data in made.files.items():
                    (draft / name).write_bytes(data)
                (draft / INFO).write_text(json.dumps(info), encoding="utf-8")
                self._put(draft, place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        found: dict[str, Any] = json.loads((place / INFO).read_text(encoding="utf-8"))
        return place, found

    def _place(self, recipe: Mapping[str, Any]) -> Path:
        text = json.dumps({"basis": self.basis, "recipe": dict(recipe)}, sort_keys=True)
        return self.folder / f"{recipe['name']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @staticmethod
    def _put(draft: Path, place: Path) -> None:
        """Where another process made the same in the meantime, that stays."""
        try:
            draft.replace(place)
        except OSError:
            if not place.is_dir():
                raise


def package_digest(folder: Path = PACKAGE) -> str:
    """Of every Python and TOML file: a change of ours makes a new model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".toml"):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def basis_of(source: Source, images: Sequence[Path]) -> dict[str, Any]:
    """What all recipes of one comparison share: weights, preprocessing and the bytes of the images."""
    digest = hashlib.sha256()
    for path in images:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {
        "weights": source.sha256,
        "preprocess": source.preprocess.to_json(),
        "calibration": digest.hexdigest(),
    }
