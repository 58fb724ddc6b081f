"""The files of onnxruntime-web that lie beside a site, so that nothing comes from elsewhere."""

import importlib.resources
import tomllib
from pathlib import Path

from vit_edge.errors import UsageError

_RELEASE = importlib.resources.files("vit_edge.package") / "onnxruntime_web.toml"
_STATED = tomllib.loads(_RELEASE.read_text(encoding="utf-8"))
VERSION: str = _STATED["version"]
FILES: tuple[str, ...] = tuple(_STATED["files"])
WEB_RUNTIME = (
    f"run: npm pack onnxruntime-web@{VERSION} && tar -xzf onnxruntime-web-{VERSION}.tgz && "
    "mkdir {target}/ort && "
    f"cp {' '.join(f'package/dist/{name}' for name in FILES)} {{target}}/ort/"
)


def runtime_files(modules: Path | None) -> dict[str, bytes] | None:
    """onnxruntime-web as it goes into a site.

    Args:
        modules: a folder `node_modules`; None looks for one where the process works.

    Returns:
        The files by their paths in the site; None where nobody named a folder and there is none.

    Raises:
        UsageError: the folder that was named does not hold it, or a file cannot be read.
    """
    place = (Path("node_modules") if modules is None else modules) / "onnxruntime-web" / "dist"
    missing = [name for name in FILES if not (place / name).is_file()]
    if missing and modules is None:
        return None
    if missing:
        raise UsageError(
            f"--modules {modules} holds no onnxruntime-web/dist/{missing[0]}; give a node_modules folder"
        )
    try:
        return {f"ort/{name}": (place / name).read_bytes() for name in FILES}
    except OSError as error:
        raise UsageError(f"{place} cannot be read ({error.strerror})") from error
