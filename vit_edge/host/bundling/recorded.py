"""Another proof source → float in a bundle that exists: manifest, card and report, all of it or nothing."""

import dataclasses
import os

from vit_edge.bundle import Bundle, FileEntry, verify_bundle, write_bundle
from vit_edge.errors import BundleError
from vit_edge.host.bundling.card import source_line
from vit_edge.host.report.bundled import REPORT
from vit_edge.host.report.page import with_source_parity
from vit_edge.source_parity import SourceParity

_CARD = "README.md"


def record_parity(path: str | os.PathLike[str], parity: SourceParity) -> Bundle:
    """Put a proof into a bundle in place of the one that it has; every SHA-256 is that of the new files.

    Args:
        path: the bundle's folder; it is replaced at once.
        parity: what `prove` found of the bundle's float model.

    Raises:
        BundleError: a bundle that is damaged, holds foreign files, or whose card or report says
            something else than its manifest.
    """
    bundle = verify_bundle(path)
    manifest = bundle.manifest
    files = {name: bundle.read(name) for name in manifest.files}
    try:
        if _CARD in files:
            files[_CARD] = _card_with(files[_CARD].decode(), manifest.source_parity, parity).encode()
        if REPORT in files:
            files[REPORT] = with_source_parity(files[REPORT].decode(), parity).encode()
    except (ValueError, KeyError, TypeError):
        raise BundleError(
            f"the card or report of {bundle.path} is not as this vit-edge writes it: build the bundle again"
        ) from None
    entries = {name: FileEntry.of(data, manifest.files[name].role) for name, data in files.items()}
    return write_bundle(path, files, dataclasses.replace(manifest, files=entries, source_parity=parity))


def _card_with(text: str, old: SourceParity, new: SourceParity) -> str:
    known = source_line(old)
    if text.count(known) != 1:
        raise ValueError("the card does not show what the manifest says")
    return text.replace(known, source_line(new))
