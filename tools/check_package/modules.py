"""The packages of npm that the homes need, where they are kept.

python -m tools.check_package.modules    # fetches those that are absent; no script of theirs is run
"""

import subprocess
import sys
from pathlib import Path

from tools.engines.catalogue import ENGINES, default_cache
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
    module = _place(cache, package) / "node_modules" / name
    if not module.is_dir():
        raise UsageError(f"needs {name}: {' '.join(_install(cache, package))}")
    return module


def _place(cache: Path, package: str) -> Path:
    return cache / f"npm_{package.lstrip('@').replace('@', '-').replace('/', '-')}"


def _install(cache: Path, package: str) -> list[str]:
    return ["npm", "install", "--ignore-scripts", "--prefix", str(_place(cache, package)), package]


def fetch(cache: Path) -> None:
    """Install what is absent.

    Raises:
        OSError, subprocess.CalledProcessError: npm is not there, or fails.
    """
    for package in (SHARP, TYPESCRIPT, TRANSFORMERS):
        try:
            _module(cache, package)
        except UsageError:
            _place(cache, package).mkdir(parents=True, exist_ok=True)
            subprocess.run([*_install(cache, package), "--no-audit", "--no-fund"], check=True)


def link_modules(package: Path, *modules: Path) -> None:
    """Lay packages of npm into a package for Node, as links."""
    (package / "node_modules").mkdir(exist_ok=True)
    for module in modules:
        (package / "node_modules" / module.name).symlink_to(module)


if __name__ == "__main__":
    try:
        fetch(default_cache())
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"modules: {error}")
