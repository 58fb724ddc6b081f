"""Which products need activations of 16 bits, on devices that have both widths."""

from collections.abc import Sequence

from vit_edge.host.plan import Need
from vit_edge.host.quantize.choose import LayerOptions
from vit_edge.host.quantize.macs import macs_of
from vit_edge.host.quantize.types import Form
from vit_edge.host.rewrite.canonical import Canonical


def needs(canonical: Canonical, layers: Sequence[LayerOptions]) -> tuple[Need, ...]:
    """What each layer loses by 8 bits, the most for its multiply-adds first.

    Args:
        canonical: the folded model.
        layers: every form of every layer; of those without a static form nothing is said.
    """
    macs = {str(node.name): macs_of(node) for node in canonical.model.graph}
    total = sum(macs.values())
    found = [
        Need(layer.name, macs[layer.name] / total, option.noise)
        for layer in layers
        for option in layer.options
        if option.form is Form.STATIC
    ]
    return tuple(sorted(found, key=lambda need: (-need.noise / max(need.macs, 1e-12), need.layer)))
