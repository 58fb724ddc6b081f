"""What Rockchip's compiler built of each product, by the table of layers that it prints."""

from collections.abc import Mapping, Sequence

from vit_edge.host.hybrid.products import Product

INTEGER = "INT8"


def layers_of(product: Product, layers: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The rows of the compiler's table that compute a product, or a part of it."""
    return [row for row in layers if _computes(row) and _product_of(row["name"]) == product.name]


def _computes(row: Mapping[str, str]) -> bool:
    return row["operator"].startswith("Conv") or row["operator"] == "exSDPAttention"


def _product_of(name: str) -> str:
    """What the file calls the product that a layer belongs to, by the names that fusing gives."""
    if ".mix_2sdpa" in name:
        return name.split(".mix_2sdpa")[0]
    if ".norm" in name and "_mm" in name:  # a part of a packed product is named after what it reads
        return f"{name.split('.norm')[0]}.packed"
    plain = name.split("#")[0]
    return plain.removesuffix("_split").removesuffix("_select")


def integer_share(layers: Sequence[Mapping[str, str]], products: Sequence[Product]) -> float:
    """The share of multiply-adds in products whose layers are all in 8 bits; one that is not found is not."""
    integer = 0
    for product in products:
        types = {row["type"] for row in layers_of(product, layers)}
        integer += product.macs if types == {INTEGER} else 0
    return integer / sum(product.macs for product in products)


def claims_of(
    layers: Sequence[Mapping[str, str]], narrow: set[str], products: Sequence[Product]
) -> tuple[str, ...]:
    """The products that were built in another type than was asked for, each with those that it has."""
    otherwise = []
    for product in products:
        types = sorted({row["type"] for row in layers_of(product, layers)})
        if not types or (types == [INTEGER]) is not (product.name in narrow):
            otherwise.append(f"{product.name}: {', '.join(types) or 'not in the table'}")
    return tuple(otherwise)
