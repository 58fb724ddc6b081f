"""The weight files of a folder: one, or the shards that an index names."""

from pathlib import Path

from vit_edge.errors import SourceError
from vit_edge.host.sources.jsonfile import read_object

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_MOST_SHARDS = 1000


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that `save_pretrained` wrote the weights to; () where there are none.

    Raises:
        SourceError: an index that is malformed, or names a file that is not in the folder.
    """
    for name in _WHOLE:
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    return ()


def _shards(index: Path) -> tuple[Path, ...]:
    mapped = read_object(index).get("weight_map")
    if (
        not isinstance(mapped, dict)
        or not mapped
        or not all(isinstance(each, str) for each in mapped.values())
    ):
        raise SourceError(f"{index}: weight_map must be an object from key to file: fetch it again")
    names = sorted(set(mapped.values()))
    if len(names) > _MOST_SHARDS:
        raise SourceError(f"{index} names {len(names)} files, more than {_MOST_SHARDS}: fetch it again")
    for name in names:
        if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            raise SourceError(
                f"{index} names {name[:80]!r}, which is no file of its own folder: fetch it again"
            )
        if not (index.parent / name).is_file():
            raise SourceError(f"{index} names {name}, which is not there: fetch the missing shard")
    return tuple(index.parent / name for name in names)
