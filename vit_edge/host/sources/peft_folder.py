"""A folder with a LoRA (or another PEFT) adapter: merged into its base model where `peft` is installed."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.huggingface import cached_folder, from_folder
from vit_edge.host.sources.jsonfile import read_object
from vit_edge.host.sources.types import Source, SourceOptions


def from_adapter(folder: Path, name: str, options: SourceOptions) -> Source:
    """Merge an adapter into its base model, which must be in the local cache, and read the result.

    Raises:
        SourceError: `peft` is not installed, the base is a path or not in the cache, or they do not fit.
    """
    base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
    mend = (
        "merge it where it was trained: PeftModel.from_pretrained(base, ...).merge_and_unload()"
        ".save_pretrained(FOLDER), save the image processor there, too, and pass that folder"
    )
    if not isinstance(base, str) or Path(base).exists() or base.startswith(("/", ".", "~")):
        raise SourceError(f"{folder} is an adapter of a base model that is no Hugging Face id: {mend}")
    try:
        import peft  # type: ignore[import-not-found, unused-ignore]
        import transformers
    except ImportError as error:
        raise SourceError(
            f"{folder} is an adapter of {base}, no whole model, and {error.name} is not installed: {mend}, "
            "or install peft and transformers"
        ) from None
    base_folder = cached_folder(base)
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as scratch:
        merged = Path(scratch)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # progress bars, and notes on the new head
                _merge(peft, transformers, base_folder, folder, merged)
        except Exception as error:  # whatever the two libraries raise
            cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise SourceError(f"{folder} cannot be merged into {base} ({cause}): {mend}") from error
        for place in (folder, base_folder):
            processor = place / "preprocessor_config.json"
            if processor.is_file() and not (merged / processor.name).exists():
                (merged / processor.name).write_bytes(processor.read_bytes())
        return from_folder(merged, name, options)


def _merge(peft: Any, transformers: Any, base: Path, folder: Path, merged: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as adapter:
        heads = [key for key in adapter.keys() if key.endswith("classifier.weight")]  # noqa: SIM118
        classes = adapter.get_slice(heads[0]).get_shape()[0] if heads else None
    more = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
    model = transformers.AutoModelForImageClassification.from_pretrained(
        base, local_files_only=True, use_safetensors=True, **more
    )
    wrapped = peft.PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    wrapped.merge_and_unload().save_pretrained(merged)
