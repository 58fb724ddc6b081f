"""Which kind of folder somebody names: Hugging Face's, timm's, PEFT's, optimum's, or one of checkpoints."""

import re
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError, VitEdgeError
from vit_edge.host.sources.checkpoints.shards import weight_files
from vit_edge.host.sources.folder_processor import FolderProcessor
from vit_edge.host.sources.huggingface import from_folder
from vit_edge.host.sources.jsonfile import read_object, sides
from vit_edge.host.sources.labels import from_id2label
from vit_edge.host.sources.onnx_file import Beside, from_onnx
from vit_edge.host.sources.open_clip_source import CONFIG as OPEN_CLIP_CONFIG
from vit_edge.host.sources.open_clip_source import from_open_clip_folder
from vit_edge.host.sources.peft_folder import from_adapter
from vit_edge.host.sources.timm_folder import from_timm_folder
from vit_edge.host.sources.types import Source, SourceOptions

_ONNX = ("model.onnx", "onnx/model.onnx")
_STEP = re.compile(r"checkpoint-(\d+)")


def open_folder(folder: Path, name: str, options: SourceOptions) -> Source:
    """Read a model's folder.

    Nothing outside the folder is read, but for the base model of an adapter, which lies in the local cache.

    Args:
        folder: see `docs/checkpoints.md`.
        name: of the source, without any path.
        options: what the user states.

    Raises:
        SourceError: none of the kinds, or one that cannot be read; the message names the file and the mend.
    """
    config = folder / "config.json"
    files = weight_files(folder)
    if not files and (folder / "adapter_config.json").is_file():
        return from_adapter(folder, name, options)
    if config.is_file() or files:
        raw = read_object(config)
        if isinstance(raw.get("architecture"), str) and "architectures" not in raw:
            return from_timm_folder(folder, raw, name, options)
        if files:
            return from_folder(folder, name, options)
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return from_open_clip_folder(folder, name, options)
    onnx_file = next((folder / each for each in _ONNX if (folder / each).is_file()), None)
    if onnx_file is not None:
        return from_onnx(onnx_file, options, _beside(folder, name))
    return _from_steps(folder, options)


def _beside(folder: Path, name: str) -> Beside:
    """What the configs in a folder of optimum say of the ONNX file."""
    where = str(folder / "config.json")
    raw: dict[str, Any] = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    labels, size = raw.get("id2label"), raw.get("image_size")
    processor = FolderProcessor.of(folder, str(raw.get("model_type", "vit")))
    return Beside(
        name=name,
        labels=None if labels is None else from_id2label(labels, where),
        preprocess=processor.spec,
        size=None if size is None else sides(size, "image_size", where),
        decided=processor.notes,
        preprocessor_config=processor.config,
        problem_type=raw.get("problem_type"),
        folder=None if processor.config is None else folder,
    )


def _from_steps(folder: Path, options: SourceOptions) -> Source:
    """The one checkpoint of a training run, or which there are."""
    steps = {
        int(found[1]): path
        for path in folder.iterdir()
        if (found := _STEP.fullmatch(path.name)) and (path / "config.json").is_file()
    }
    if len(steps) == 1:
        (only,) = steps.values()
        return open_folder(only, only.name, options)
    if not steps:
        raise SourceError(
            f"{folder} has no model.safetensors, pytorch_model.bin or model.onnx with a config.json: pass a "
            "folder that save_pretrained wrote, or name the weights file itself"
        )
    last = steps[max(steps)]
    names = ", ".join(steps[step].name for step in sorted(steps)[-4:])
    raise SourceError(
        f"{folder} holds no model itself but {len(steps)} checkpoints ({names}): pass one, such as "
        f"{_best(last, folder) or last}"
    )


def _best(last: Path, folder: Path) -> Path | None:
    """The checkpoint that the trainer found best, where it says so and it is there."""
    try:
        stated = read_object(last / "trainer_state.json").get("best_model_checkpoint")
    except VitEdgeError:
        return None
    best = folder / Path(stated).name if isinstance(stated, str) else None
    return best if best is not None and _STEP.fullmatch(best.name) and best.is_dir() else None
