"""Make the hostile files in tests/hostile: images, models, manifests and targets that want to do harm.

Usage: python -m tools.make_hostile [FOLDER]

Each is small, and made from nothing but tools/hostile and tests/data/dynamic.onnx. What Pillow encodes (JPEG,
WebP, GIF) and what is deflated (bomb_in_*) depends on the version of a library; every other file is
reproduced byte for byte.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from tools.hostile.images import images
from tools.hostile.manifests import manifests
from tools.hostile.models import models
from tools.hostile.targets import targets

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "tests" / "hostile"

KINDS: dict[str, Callable[[], dict[str, bytes]]] = {
    "images": images,
    "models": models,
    "manifests": manifests,
    "targets": targets,
}


def main(folder: Path) -> None:
    for kind, make in KINDS.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in make().items():
            (folder / kind / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
