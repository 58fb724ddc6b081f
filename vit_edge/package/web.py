"""The files of onnxruntime-web that lie beside a site, so that nothing comes from elsewhere."""

import dataclasses
import functools
import importlib.resources
import tomllib
from pathlib import Path

from vit_edge.errors import UsageError


@dataclasses.dataclass(frozen=True)
class WebRelease:
    """The release of onnxruntime-web that sites are made and checked with."""

    version: str
    files: tuple[str, ...]
    """Of its `dist` folder, those that a site loads."""

    @property
    def fetching(self) -> str:
        """How to lay the files beside the site `{target}`, as one sentence for a shell."""
        copied = " ".join(f"package/dist/{name}" for name in self.files)
        return (
            f"run: npm pack onnxruntime-web@{self.version} && tar -xzf onnxruntime-web-{self.version}.tgz && "
            f"mkdir {{target}}/ort && cp {copied} {{target}}/ort/"
        )


@functools.cache
def web_release() -> WebRelease:
    """As the table beside this file states it."""
    table = importlib.resources.files("vit_edge.package") / "onnxruntime_web.toml"
    stated = tomllib.loads(table.read_text(encoding="utf-8"))
    return WebRelease(stated["version"], tuple(stated["files"]))


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
    files = web_release().files
    missing = [name for name in files if not (place / name).is_file()]
    if missing and modules is None:
        return None
    if missing:
        raise UsageError(
            f"--modules {modules} holds no onnxruntime-web/dist/{missing[0]}; give a node_modules folder"
        )
    try:
        return {f"ort/{name}": (place / name).read_bytes() for name in files}
    except OSError as error:
        raise UsageError(f"{place} cannot be read ({error.strerror})") from error
