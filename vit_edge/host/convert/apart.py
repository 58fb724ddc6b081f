"""The canonical form of a source, or a refusal in the words of its family."""

import onnx

from vit_edge.errors import ContractError
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.sources import Source


def canonical_of(
    source: Source, exported: onnx.ModelProto, *, allow_uncanonical: bool = False, key_bias: bool = False
) -> Canonical:
    """What `canonicalise` makes of an exported source.

    Args:
        source: what it was exported from.
        exported: its graph.
        allow_uncanonical: as in `canonicalise`.
        key_bias: as in `canonicalise`.

    Raises:
        ContractError: the graph is not a canonical ViT; says what its family has that is not supported, what
            was found, and what works.
        ModelError: as in `canonicalise`.
    """
    try:
        return canonicalise(exported, source.name, allow_uncanonical=allow_uncanonical, key_bias=key_bias)
    except ContractError as error:
        if source.apart is None:
            raise
        raise ContractError(_told(source, str(error))) from error


def _told(source: Source, found: str) -> str:
    family, what = (source.apart.family, source.apart.what) if source.apart else ("", "")
    has = f" and has {what}, which is not supported" if what else ", but its graph is none that is known"
    detail = found.partition(": ")[2] or found
    return (
        f"{source.name} is of the {family} family{has} ({detail}): `vit-edge export` "
        "writes it in float32, and --allow-uncanonical goes on with what was recognised"
    )
