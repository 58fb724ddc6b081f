"""The packages of npm that the homes need, where they are kept."""

from pathlib import Path

from tools.engines.catalogue import ENGINES
from vit_edge.errors import UsageError

SHARP = "sharp@0.35.5"


def onnxruntime_modules(cache: Path) -> Path:
    """The folder `node_modules` with onnxruntime-node and onnxruntime-web.

    Raises:
        UsageError: it is not there, with the command that makes it.
    """
    engine = next(each for each in ENGINES if each.node)
    reason = engine.missing(cache)
    if reason is not None:
        raise UsageError(reason)
    return engine.place(cache) / "node_modules"


def sharp_module(cache: Path) -> Path:
    """The folder of sharp, which decodes images in Node.

    Raises:
        UsageError: it is not there, with the command that makes it.
    """
    place = cache / f"npm_{SHARP.replace('@', '-')}"
    if not (place / "node_modules" / "sharp").is_dir():
        raise UsageError(f"needs sharp: npm install --ignore-scripts --prefix {place} {SHARP}")
    return place / "node_modules" / "sharp"


def link_modules(package: Path, *modules: Path) -> None:
    """Lay packages of npm into a package for Node, as links."""
    (package / "node_modules").mkdir(exist_ok=True)
    for module in modules:
        (package / "node_modules" / module.name).symlink_to(module)
