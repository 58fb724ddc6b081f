"""What rounding float operators otherwise does to a model: files that differ from it by that alone."""

import dataclasses

import numpy as np
import onnx
from onnx import numpy_helper

from vit_edge.errors import ModelError
from vit_edge.runtime.model.file import ModelFile

ULP = 2.0**-23  # of a float32, relative
NORMS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"})


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Gains and shifts of normalizations off by some units in the last place (standard deviation)."""

    ulp: float
    seed: int

    @property
    def name(self) -> str:
        """Of the row in the table."""
        return f"normalizations off by {self.ulp:g} ulp, seed {self.seed}"

    def of(self, model: ModelFile) -> ModelFile:
        """The file with this error.

        Raises:
            ModelError: it has no normalization with constant gains.
        """
        graph = onnx.load_from_string(model.data)
        constants = {name for node in graph.graph.node if node.op_type in NORMS for name in node.input[1:]}
        rng = np.random.default_rng(self.seed)
        hit = [tensor for tensor in graph.graph.initializer if tensor.name in constants]
        if not hit:
            raise ModelError(f"{model.path} has no normalization whose gains could be off")
        for tensor in hit:
            exact = numpy_helper.to_array(tensor)
            off = exact.astype(np.float64) * (1 + self.ulp * ULP * rng.standard_normal(exact.shape))
            tensor.CopyFrom(numpy_helper.from_array(off.astype(exact.dtype), tensor.name))
        return dataclasses.replace(model, data=graph.SerializeToString())
