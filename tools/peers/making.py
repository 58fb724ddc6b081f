"""One quantizer's recipe run on one job, once: what it made, or why it made nothing."""

import dataclasses
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tools.peers.catalogue import Variant
from tools.peers.environments import surroundings
from tools.peers.workshop import Made, Workshop

RECIPES = Path(__file__).parent / "recipes"
RUN = RECIPES / "run.py"
LIMIT_S = 1200  # by default, of the processor, which a busy machine does not lengthen
_SAID = 160  # characters of a quantizer's last line
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PATIENCE, _START_S = 8, 600  # so many times as long, and a start, may pass on a machine that others use


@dataclasses.dataclass(frozen=True)
class Given:
    """What every recipe is given; see `recipes/run.py`."""

    float_model: Path
    folder: Path
    images: Path
    calibration: Path
    crop_pct: float | None

    def to_json(self, output: Path) -> dict[str, Any]:
        """The job, for files to be written into `output`."""
        paths = {
            "float_model": self.float_model,
            "folder": self.folder,
            "images": self.images,
            "calibration": self.calibration,
            "output": output,
        }
        return {name: str(path.resolve()) for name, path in paths.items()} | {"crop_pct": self.crop_pct}


def quantized(
    variant: Variant,
    python: Path,
    versions: dict[str, str],
    given: Given,
    workshop: Workshop,
    limit_s: int,
) -> tuple[Path, dict[str, Any]]:
    """The folder with what a recipe made, and how: "error" (None where it succeeded), "seconds" and more.

    Args:
        variant: whose recipe.
        python: of its environment.
        versions: of what is installed there; others make another model.
        given: the job.
        workshop: where models are kept.
        limit_s: seconds of the processor after which it is ended.
    """
    source = (RECIPES / f"{variant.recipe}.py").read_text(encoding="utf-8")
    recipe = {"name": f"{variant.recipe}-{variant.function}", "source": source, "versions": versions}
    late = recipe | {"limit_s": limit_s}  # another limit may be kept
    reason = f"it took longer than {limit_s} s of the processor"
    if not workshop.has(late):
        try:
            return workshop.make(recipe, lambda: _run(variant, python, given, limit_s))
        except _TooLateError as ended:
            reason += f"; its last line: {ended}" if str(ended) else ""
    return workshop.make(late, lambda: Made({}, {"error": reason}))


class _TooLateError(Exception):
    """The limit was reached; holds the last line that the quantizer said, which may tell how far it came."""

    def __init__(self, said: bytes | None) -> None:
        text = _COLOURS.sub("", (said or b"").decode("utf-8", "replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]  # a bar's, too, ends with \r
        super().__init__(lines[-1][:_SAID] if lines else "")


def _run(variant: Variant, python: Path, given: Given, limit_s: int) -> Made:
    with tempfile.TemporaryDirectory(prefix="quantizer-") as folder:
        place, output = Path(folder) / "job.json", Path(folder) / "made"
        output.mkdir()
        place.write_text(json.dumps(given.to_json(output)), encoding="utf-8")
        recipe = RECIPES / f"{variant.recipe}.py"
        command = [
            str(python),
            str(RUN),
            str(recipe),
            variant.function,
            str(place),
            str(limit_s),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=surroundings(python),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_START_S + _PATIENCE * limit_s,
            )
        except subprocess.TimeoutExpired as ended:
            raise _TooLateError(ended.stdout) from None
        result = place.with_name("result.json")
        if not result.is_file():
            return Made(
                {}, {"error": f"the quantizer ended with status {done.returncode} and without a word"}
            )
        info: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if info.pop("late"):
            raise _TooLateError(done.stdout)
        if info["error"] is None and not (output / variant.model).is_file():
            info["error"] = f"it wrote no {variant.model}"
        if info["error"] is not None:
            return Made({}, info)
        return Made({path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}, info)
