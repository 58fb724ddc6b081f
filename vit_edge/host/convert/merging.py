"""Files whose tokens merge: the float32 classifier with fewer tokens from block to block."""

import os
from pathlib import Path

import onnx

from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import possible_form
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.one_file import Written
from vit_edge.host.convert.onnx_io import check_output, finish, save_onnx
from vit_edge.host.convert.optimize import CheckImages, image_size, normalisation_of, optimized
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.merging import merged
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity
from vit_edge.spec import AS_WRITTEN, ModelForm, VersionsWanted


def export_merged(
    source: Source,
    out: str | os.PathLike[str],
    count: int,
    batch: int | None = None,
    versions: VersionsWanted = AS_WRITTEN,
) -> Written:
    """Write the float32 classifier of a source with `count` tokens merged in each block.

    It is another function than the source's. What is checked is that the graph in which tokens merge gives
    the source's answers as long as none do.

    Raises:
        UsageError, ContractError: as in `merged`.
        VitEdgeError: as in `export` and `save_onnx`.
    """
    check_output(out)
    model, canonical, parity = _with_merging(source, ModelForm(batch).at(versions), count)
    return Written(Path(out), save_onnx(model, out), parity, canonical)


def _with_merging(source: Source, form: ModelForm, count: int) -> tuple[onnx.ModelProto, Canonical, Parity]:
    """The finished model of `export_merged`, its graph, and how far that is from the export if none merge."""
    original, _ = export(source)
    canonical = canonical_of(source, original, key_bias=True)
    written, form = merged(canonical, count), possible_form(canonical, form)
    _, parity = optimized(original, canonical, form, CheckImages(image_size(canonical), source.preprocess))
    model = lower(written, LowerSettings(form, normalisation_of(source.preprocess)))
    return finish(model, metadata_of(source, merging=written.merging)), written, parity
