"""The packages of npm that the homes need, where they are kept."""

from pathlib import Path

from tools.engines.catalogue import ENGINES
from vit_edge.errors import UsageError

SHARP = "sharp@0.35.5"
TYPESCRIPT = "typescript@7.0.2"
TRANSFORMERS = "@huggingface/transformers@4.3.2"


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
    return _module(cache, SHARP)


def typescript_module(cache: Path) -> Path:
    """The folder of TypeScript's compiler.

    Raises:
        UsageError: it is not there, with the command that makes it.
    """
    return _module(cache, TYPESCRIPT)


def transformers_module(cache: Path) -> Path:
    """The folder of transformers.js, with onnxruntime-node and sharp beside it.

    Raises:
        UsageError: it is not there, with the command that makes it.
    """
    return _module(cache, TRANSFORMERS)


def _module(cache: Path, package: str) -> Path:
    name = package.rpartition("@")[0]
    place = cache / f"npm_{package.lstrip('@').replace('@', '-').replace('/', '-')}"
    if not (place / "node_modules" / name).is_dir():
        raise UsageError(f"needs {name}: npm install --ignore-scripts --prefix {place} {package}")
    return place / "node_modules" / name


def link_modules(package: Path, *modules: Path) -> None:
    """Lay packages of npm into a package for Node, as links."""
    (package / "node_modules").mkdir(exist_ok=True)
    for module in modules:
        (package / "node_modules" / module.name).symlink_to(module)
