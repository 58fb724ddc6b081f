"""What a table of layers says of the products that were asked for."""

import pytest

from tests.host.compilers.printed import PRINTED
from vit_edge.host.compilers.rockchip_layers import claims_of, integer_share, layers_of
from vit_edge.host.compilers.rockchip_script import layer_table
from vit_edge.host.hybrid.products import Product


def products() -> list[Product]:
    names = (
        "embed.conv",
        "blocks.0.packed",
        "blocks.1.packed",
        "blocks.0.attention",
        "blocks.0.proj",
        "head",
    )
    return [Product(name, 10, (), "") for name in names]


def test_every_layer_is_counted_to_its_product_and_one_that_is_missing_is_not_in_8_bits() -> None:
    rows = layer_table(PRINTED)
    counts = {each.name: len(layers_of(each, rows)) for each in products()}
    assert counts == {**dict.fromkeys([each.name for each in products()], 1), "head": 0}
    assert integer_share(rows, products()) == pytest.approx(3 / 6)


def test_what_was_built_otherwise_than_asked_is_named() -> None:
    rows = layer_table(PRINTED)
    good = {"embed.conv", "blocks.0.packed", "blocks.0.proj"}
    assert claims_of(rows, good, products()[:5]) == ()
    found = claims_of(rows, {*good, "blocks.0.attention"}, products())
    assert found == ("blocks.0.attention: FLOAT16", "head: not in the table")
    assert claims_of(rows, good - {"blocks.0.proj"}, products()[:5]) == ("blocks.0.proj: INT8",)
