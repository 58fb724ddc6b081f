"""Writing an ONNX graph node by node, with readable names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.affine import Affine
from vit_edge.host.initializers import digest_of, initializer
from vit_edge.spec import PORTABLE, ActivationType, FloatType, GraphStyle, ModelForm

Attributes = Mapping[str, Any]
_MOST_WRITTEN_OUT = 16  # numbers in the name of a constant


class GraphWriter:
    """Collects nodes and initializers; every value is named after the layer it belongs to.

    Args:
        form: the type of quantized activations, and for which reader the graph is written. A range is always
            given for uint8; as int8 the same steps are numbered 128 lower, or centred on zero.
    """

    def __init__(self, form: ModelForm = PORTABLE) -> None:
        self.signed = form.activations is ActivationType.INT8
        self.symmetric, self.style = form.symmetric, form.style
        self.narrow = self.style is GraphStyle.COMPILER or form.float_type is FloatType.FLOAT16
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self._names: set[str] = set()
        self._quantized: dict[tuple[str, Affine], ir.Value] = {}
        self._apart: dict[ir.Value, tuple[ir.Value, int]] = {}  # flat value -> (what it was made from, width)

    def op(
        self, op_type: str, inputs: Sequence[ir.Value | None], name: str, attributes: Attributes | None = None
    ) -> ir.Value:
        """One node with one output."""
        return self.ops(op_type, inputs, name, attributes, 1)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Attributes | None,
        count: int,
    ) -> list[ir.Value]:
        """One node with `count` outputs."""
        unique = self._unique(name)
        names = [unique] if count == 1 else [f"{unique}.{i}" for i in range(count)]
        converted = ir.convenience.convert_attributes(dict(attributes or {}))
        outputs = [ir.Value(name=n) for n in names]
        self.nodes.append(ir.Node("", op_type, inputs, converted, outputs=outputs, name=unique))
        return outputs

    def constant(self, array: Array, name: str) -> ir.Value:
        """An initializer."""
        unique = self._unique(name)
        value = self.initializers[unique] = initializer(array, unique)
        return value

    def reshape(self, x: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """Reshape; one size may be -1."""
        return self.op("Reshape", [x, self.shared(np.asarray(shape, np.int64), "shape")], name)

    def transpose(self, x: ir.Value, perm: Sequence[int], name: str) -> ir.Value:
        """Transpose."""
        return self.op("Transpose", [x], name, {"perm": list(perm)})

    def shared(self, array: Array, kind: str) -> ir.Value:
        """A constant that is stored once however often it is used."""
        few = array.size <= _MOST_WRITTEN_OUT
        told = "x".join(str(item) for item in array.reshape(-1).tolist()) if few else digest_of(array)
        name = f"{kind}_{array.dtype}_{told}"
        return self.initializers[name] if name in self.initializers else self.constant(array, name)

    def quantized(self, x: ir.Value, reach: Affine, name: str) -> ir.Value:
        """QuantizeLinear of `x` (per tensor), written once for each value and range."""
        key = (str(x.name), reach)
        if key not in self._quantized:
            apart, width = self._apart.get(x, (x, 0))
            inputs = [apart, *self._range(reach)]
            made = self.op("QuantizeLinear", inputs, f"{name}.quantized")
            self._quantized[key] = self.reshape(made, (-1, width), f"{name}.flat") if width else made
        return self._quantized[key]

    def flattened(self, x: ir.Value, width: int, name: str) -> ir.Value:
        """(batch, rows, width) -> (batch * rows, width); quantizing the result quantizes `x` and flattens."""
        flat = self.reshape(x, (-1, width), name)
        self._apart[flat] = x, width
        return flat

    def images(self, x: ir.Value, rows: int, width: int, name: str) -> ir.Value:
        """(batch * rows, width) -> (batch, rows, width): what `flattened` made it from, where it did."""
        apart, flat_width = self._apart.get(x, (x, 0))
        return apart if flat_width == width else self.reshape(x, (-1, rows, width), name)

    def dequantized(self, x: ir.Value, reach: Affine, name: str) -> ir.Value:
        """DequantizeLinear of `x` (per tensor)."""
        return self.op("DequantizeLinear", [x, *self._range(reach)], f"{name}.dequantized")

    def restored(self, codes: ir.Value, reach: Affine, name: str) -> ir.Value:
        """DequantizeLinear of codes; quantizing the result in that range gives them back."""
        real = self.dequantized(codes, reach, name)
        self._quantized[str(real.name), reach] = codes
        return real

    def fake(self, x: ir.Value, reach: Affine, name: str) -> ir.Value:
        """QuantizeLinear followed by DequantizeLinear: what a fused integer kernel reads."""
        return self.dequantized(self.quantized(x, reach, name), reach, name)

    def activation(self, x: ir.Value, reach: Affine, name: str) -> ir.Value:
        """The round trip of an activation, whose range is given for uint8."""
        return self.fake(x, self.activation_range(reach), name)

    def activation_range(self, reach: Affine) -> Affine:
        """A uint8 range in the type of activations."""
        if self.symmetric:
            return reach.centred()
        return reach.signed() if self.signed else reach

    def weight(self, weight: Array, scale: Array, name: str, axis: int = 1) -> ir.Value:
        """DequantizeLinear of an int8 weight, one scale for each place along an axis."""
        inputs = [
            self.constant(weight.astype(np.int8), f"{name}.weight"),
            self.constant(scale.astype(np.float32), f"{name}.weight_scale"),
            self.constant(np.zeros(scale.shape, np.int8), f"{name}.weight_zero_point"),
        ]
        return self.op("DequantizeLinear", inputs, f"{name}.weight_dequantized", {"axis": axis})

    def _range(self, reach: Affine) -> list[ir.Value]:
        return [
            self.shared(np.asarray(reach.scale, np.float32), "scale"),
            self.shared(np.asarray(reach.zero_point, reach.dtype), "zero_point"),
        ]

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}.{count}"
        self._names.add(candidate)
        return candidate
