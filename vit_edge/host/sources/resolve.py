"""One place that decides what the user's text names."""

from pathlib import Path

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.archs import find_arch
from vit_edge.host.sources.checkpoints.files import SUFFIXES
from vit_edge.host.sources.folders import open_folder
from vit_edge.host.sources.huggingface import cached_folder
from vit_edge.host.sources.meaning import with_meaning
from vit_edge.host.sources.onnx_file import from_onnx
from vit_edge.host.sources.own_code import PATTERN, from_callable
from vit_edge.host.sources.timm_module import timm_has
from vit_edge.host.sources.timm_names import timm_name
from vit_edge.host.sources.types import Source, SourceOptions
from vit_edge.host.sources.weights import from_weights

_FORMS = (
    "a Hugging Face folder or id, timm:NAME@FILE, a .safetensors, .pth or .ckpt file, an ONNX file, "
    "or module:callable"
)


def resolve(text: str, options: SourceOptions) -> Source:
    """Find, read and check the model that `text` names.

    `text` is a folder as Hugging Face, timm, PEFT or optimum writes it; an id of such a folder that is in the
    local cache; `timm:NAME@FILE`, or `timm:NAME` from the cache; a `.safetensors`, `.pth`, `.pt`, `.bin`,
    `.ckpt` or `.tar` file; a `.onnx` file; or `module:callable`. A path that exists always wins, and the
    network is never used.

    Raises:
        SourceError: nothing there, or no ViT classifier that can be read; one sentence names the cause.
        UsageError: an unknown architecture, an option that is missing, or one that has no meaning here.
    """
    found = _found(text, options)
    if options.labels_text is not None and (found.own_pipeline is None or found.own_pipeline.prompts is None):
        raise UsageError(
            f"--labels-text goes with a CLIP or SigLIP that has both towers, not {found.name}: leave it out"
        )
    return with_meaning(found, options)


def _found(text: str, options: SourceOptions) -> Source:
    if not text:
        raise SourceError(f"the source is empty: pass {_FORMS}")
    if text.startswith("timm:"):
        return _timm(text.removeprefix("timm:"), options)
    path = Path(text)
    if path.suffix in SUFFIXES and not path.is_dir():
        return from_weights(path, options.arch, options)
    if options.arch is not None:
        raise UsageError(
            f"--arch {options.arch!r} only goes with a weights file, but the source is {text}: leave it out"
        )
    if path.exists() or path.suffix == ".onnx":
        return _from_path(path, options)
    if PATTERN.fullmatch(text):
        return from_callable(text, options)
    if text.count("/") == 1 and not text.startswith(("/", ".")):
        return open_folder(cached_folder(text), text.partition("/")[2], options)
    raise SourceError(f"{text} does not exist: pass {_FORMS}")


def _from_path(path: Path, options: SourceOptions) -> Source:
    if path.is_dir():
        return open_folder(path, path.resolve().name, options)
    if not path.exists():
        raise SourceError(f"{path} is no file: check the path")
    if path.suffix == ".onnx":
        return from_onnx(path, options)
    raise SourceError(f"{path} is none of the files that can be read: pass {_FORMS}")


def _timm(text: str, options: SourceOptions) -> Source:
    name, at, file = text.partition("@")
    if options.arch is not None:
        raise UsageError(f"--arch {options.arch!r} and timm:{name} both name one: leave --arch out")
    if timm_name(name) is None and not timm_has(name):
        find_arch(name)
    if at and not file:
        raise UsageError(f"timm:{text} names no file behind the @: write timm:{name}@FILE or timm:{name}")
    if file:
        return from_weights(Path(file), name, options)
    folder = cached_folder(f"timm/{name}")
    if (folder / "config.json").is_file():
        return open_folder(folder, name, options)
    return from_weights(folder / "model.safetensors", name, options)
