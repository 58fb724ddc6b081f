"""A folder with a LoRA (or another PEFT) adapter: merged into its base model where `peft` is installed."""

import contextlib
import dataclasses
import io
import tempfile
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.huggingface import cached_folder, from_folder
from vit_edge.host.sources.jsonfile import read_object
from vit_edge.host.sources.quiet import quiet_transformers
from vit_edge.host.sources.types import Source, SourceOptions

_PROCESSOR = "preprocessor_config.json"
_BASE_PROCESSOR = "the adapter's folder has no image processor: that of its base model is taken"


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
        import peft  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        import transformers  # noqa: F401
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
                adapted(base_folder, folder).merge_and_unload().save_pretrained(merged)
        except Exception as error:  # whatever the two libraries raise
            cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise SourceError(f"{folder} cannot be merged into {base} ({cause}): {mend}") from error
        places = [each for each in (folder, base_folder) if (each / _PROCESSOR).is_file()]
        if places and not (merged / _PROCESSOR).exists():
            (merged / _PROCESSOR).write_bytes((places[0] / _PROCESSOR).read_bytes())
        source = from_folder(merged, name, options)
    notes = (_BASE_PROCESSOR,) if places and places[0] != folder else ()
    own = source.own_pipeline
    return dataclasses.replace(
        source,
        decided=(*notes, *source.decided),
        own_pipeline=None if own is None else dataclasses.replace(own, path=folder, base=base_folder),
    )


def adapted(base: Path, folder: Path) -> Any:
    """The base model of transformers with an adapter before it is merged, a PeftModel.

    Args:
        base: folder of the base model.
        folder: of the adapter.

    Raises:
        Exception: whatever `peft` and `transformers` raise.
    """
    import peft
    import transformers
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as adapter:
        heads = [key for key in adapter.keys() if key.endswith("classifier.weight")]  # noqa: SIM118
        classes = adapter.get_slice(heads[0]).get_shape()[0] if heads else None
    more = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
    with quiet_transformers():  # else it reports the head that the adapter brings
        model = transformers.AutoModelForImageClassification.from_pretrained(
            base, local_files_only=True, use_safetensors=True, **more
        )
        return peft.PeftModel.from_pretrained(model, str(folder), local_files_only=True)
