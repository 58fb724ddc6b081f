"""An image tower in the layout that home photo servers read, beside the text tower of the user's own export.

Source of the layout: immich's machine-learning service and its model exporter
(https://github.com/immich-app/immich/tree/main/machine-learning): `visual/model.onnx` takes `image` float32
(1, 3, S, S), `visual/preprocess_cfg.json` is open_clip's, `textual/model.onnx` has a tokenizer beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from vit_edge.bundle import Bundle, Role, read_bundle
from vit_edge.errors import BundleError, UsageError
from vit_edge.files import read_file
from vit_edge.host.convert.export import renamed
from vit_edge.host.sources import Source
from vit_edge.package.homes import Written, check_free, write_files
from vit_edge.runtime.model.file import read_model
from vit_edge.spec import OutputKind, PreprocessSpec, ResizeMode

IMAGE = "image"  # what the server calls the input
_TEXTUAL = ("model.onnx", "tokenizer.json", "tokenizer_config.json")
_MOST_BYTES = 2**31 - 1


def write_immich(path: Path, target: Path, textual: Path | None) -> Written:
    """Write a bundle's image tower, and the text tower of an export of the same model where it is given.

    The text tower and its `config.json` are copied as they are; only that both give vectors of one length is
    checked.

    Args:
        path: a bundle of an image tower whose vectors are compared with texts.
        target: the folder to make; an empty one may be there.
        textual: a folder in this layout, with `config.json` and `textual/`.

    Raises:
        BundleError: another bundle, or a preprocessing that the server cannot do.
        UsageError: a target that holds something, or a text tower that does not fit.
    """
    check_free(target)
    file = read_model(path, _role(read_bundle(path)))
    preprocess = _preprocess(file.output, file.preprocess, str(file.path))
    model = onnx.load_from_string(file.data)
    renamed(model, {model.graph.input[0].name: IMAGE})
    files = {
        "visual/model.onnx": model.SerializeToString(),
        "visual/preprocess_cfg.json": _json(preprocess),
    }
    missing = "textual/ and config.json are missing: copy them from the server's own export of the same model"
    if textual is not None:
        files |= _text_tower(textual, file.classes or 0)
        missing = "copy {target} to clip/NAME in the server's model cache"
    write_files(target, files)
    return Written(target, len(files), sum(map(len, files.values())), missing.format(target=target))


def check_immich(source: Source, target: Path, textual: Path | None) -> None:
    """Refuse a source whose bundle `write_immich` would refuse, as far as that is known before it is built.

    Raises:
        BundleError: another kind of model, or a preprocessing that the server cannot do.
        UsageError: a target that holds something, or a text tower that does not fit.
    """
    check_free(target)
    _preprocess(source.output, source.preprocess, source.name)
    if textual is not None:
        _text_tower(textual, source.numbers)


def _role(bundle: Bundle) -> Role:
    """The portable INT8 file where the bundle runs integers and has it."""
    runs_float = bundle.manifest.files[bundle.manifest.default_model].role is Role.FLOAT
    return Role.FLOAT if runs_float or not bundle.with_role(Role.QUANTIZED) else Role.QUANTIZED


def _preprocess(output: OutputKind, spec: PreprocessSpec | None, where: str) -> dict[str, Any]:
    """open_clip's `preprocess_cfg`, where it says what the bundle does."""
    if output is not OutputKind.UNIT_EMBEDDING or spec is None:
        raise BundleError(
            f"{where} gives {output.value}, which is compared with no texts: build it of an image "
            "tower of CLIP or SigLIP"
        )
    modes = {ResizeMode.SHORT_SIDE: "shortest", ResizeMode.EXACT: "squash"}
    whole = (spec.height, spec.height)
    fits = (spec.height, spec.width) == whole and spec.resize_mode in modes and spec.resize == whole
    if not fits:
        raise BundleError(
            f"{where} resizes to {spec.resize[0]}x{spec.resize[1]} ({spec.resize_mode.value}) and "
            f"crops {spec.height}x{spec.width}; immich resizes to the side of a square and crops that: build "
            f"it with --crop-pct 1 or --resize-mode {ResizeMode.EXACT.value}"
        )
    return {
        "size": [spec.height, spec.width],
        "mode": "RGB",
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation.value,
        "resize_mode": modes[spec.resize_mode],
        "fill_color": 0,
    }


def _text_tower(folder: Path, dim: int) -> dict[str, bytes]:
    """The files of the user's own text tower, by their paths in the layout."""
    names = ("config.json", *(f"textual/{name}" for name in _TEXTUAL))
    try:
        found = {name: read_file(folder / name, _MOST_BYTES) for name in names}
    except OSError as error:
        raise UsageError(
            f"--textual {folder} must hold {', '.join(names)} ({error.strerror}): name the folder of the "
            "server's own export"
        ) from None
    _check_config(folder / "config.json", found["config.json"])
    _check_model(folder, found["textual/model.onnx"], dim)
    return found


def _check_model(folder: Path, data: bytes, dim: int) -> None:
    try:
        graph = onnx.load_from_string(data).graph
    except Exception as error:  # protobuf's own
        raise UsageError(f"--textual {folder}: textual/model.onnx is no ONNX model") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise UsageError(
            f"--textual {folder}: textual/model.onnx keeps weights in files beside it: leave --textual out "
            "and copy the folder yourself"
        )
    inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    if inputs not in ({"text"}, {"input_ids", "attention_mask"}):
        raise UsageError(
            f"--textual {folder}: textual/model.onnx takes {', '.join(sorted(inputs))}, not `text` as the "
            "server gives it"
        )
    own = graph.output[0].type.tensor_type.shape.dim
    width = int(own[-1].dim_value) if own else 0
    if width not in (0, dim):
        raise UsageError(
            f"--textual {folder} gives vectors of {width} numbers, the bundle of {dim}: they are of two "
            "models"
        )


def _check_config(path: Path, data: bytes) -> None:
    try:
        raw = json.loads(data)
    except ValueError:
        raw = None
    if not isinstance(raw, Mapping) or not isinstance(raw.get("text_cfg"), Mapping):
        raise UsageError(f"{path} is no config of open_clip: it has no text_cfg, which the server reads")


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
