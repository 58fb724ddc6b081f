"""Lowering of a whole canonical model."""

import dataclasses
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass, ShapeInferencePass

from vit_edge.errors import ModelError
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.half import to_half
from vit_edge.host.lower.nodes import NodeWriter
from vit_edge.host.lower.several import takes_any_batch
from vit_edge.host.lower.sizes import heads_of
from vit_edge.host.lower.versions import to_versions
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.rewrite.canonical import Canonical, output_names
from vit_edge.host.rewrite.composites import ATTENTION, composites
from vit_edge.host.rewrite.values import static_shape
from vit_edge.runtime.steps import explained
from vit_edge.spec import PORTABLE, WRITTEN, FloatType, InputForm, ModelForm


@dataclasses.dataclass(frozen=True)
class LowerSettings:
    """What is written, and with what it is normalised."""

    form: ModelForm = PORTABLE
    normalisation: Normalisation | None = None
    """Needed where the pixels themselves are used."""
    outputs: tuple[str, ...] = ()
    """Names for the first outputs of the graph; the rest is not written. (): as in `output_names`."""
    attention: str = ""
    """What the probabilities of each block's attention are called among the outputs, with the number of the
    block behind a dot; empty: they are none."""


def lower(
    canonical: Canonical, settings: LowerSettings, plan: QuantPlan = FLOAT, *, check: bool = True
) -> onnx.ModelProto:
    """The standard-operator form of a canonical model, with every shape inferred, and checked.

    Without `check` neither is done: a quarter of the time, for models that are run once and thrown away.

    Raises:
        ModelError: the model must have a batch of 1 and another was asked for; or the `pixels` form was, and
            the settings do not say how pixels are normalised.
    """
    with explained(canonical.name, "writing the graph", "please report this model"):
        return _Lowering(canonical, settings, plan, check=check).run()


def lower_taps(
    canonical: Canonical, settings: LowerSettings, plan: QuantPlan, taps: Sequence[str]
) -> tuple[onnx.ModelProto, list[str]]:
    """A model that returns activations instead of logits, and holds only what they need.

    Args:
        canonical: the model.
        settings: the form of the file.
        plan: what is quantized in front of the taps.
        taps: a linear layer's name taps its float input (rows, in), with `.out` its output (rows, out); a
            convolution's name taps its input (batch, channels, rows, columns), with `.result` what it gives,
            behind a Relu or Clip that alone reads it; an attention's name with `.q`, `.k` or `.v` taps that
            operand (batch, heads, rows, width), with `.p` its probabilities (batch, heads, rows, keys), which
            only a float attention has, with `.out` its output (rows, heads * width).

    Returns:
        The model, and the names of its outputs in the order of `taps`.
    """
    return _Lowering(canonical, settings, plan).run_taps(taps)


@dataclasses.dataclass(frozen=True, eq=False)
class Lowered:
    """A model as standard operators, in no file yet; constants are values with a tensor of their own."""

    given: ir.Value
    """The image."""
    nodes: tuple[ir.Node, ...]
    """In the order in which they can run."""
    outputs: tuple[ir.Value, ...]
    """Those that the settings name."""
    taps: Mapping[str, ir.Value]
    """By the names of `lower_taps`."""


def lower_nodes(canonical: Canonical, settings: LowerSettings, plan: QuantPlan = FLOAT) -> Lowered:
    """The operators of a model, for who runs them one by one; neither converted to a version nor checked.

    Raises:
        ModelError: as in `lower`.
    """
    with explained(canonical.name, "writing the graph", "please report this model"):
        lowering = _Lowering(canonical, settings, plan)
        given, writer = lowering.nodes(), lowering.writer
        names = settings.outputs or output_names(canonical)
        wanted = zip(names, canonical.model.graph.outputs, strict=False)
        outputs = tuple(writer.value(result) for _, result in wanted)
        return Lowered(given, tuple(writer.w.nodes), outputs, writer.taps)


class _Lowering:
    def __init__(
        self, canonical: Canonical, settings: LowerSettings, plan: QuantPlan, *, check: bool = True
    ) -> None:
        self.check = check
        self.canonical, self.settings = canonical, settings
        self.image = canonical.model.graph.inputs[0]
        self.given = self.input()
        self.writer = NodeWriter(canonical, settings.form, settings.normalisation, plan, self.given)
        if settings.form.batch != 1 and not takes_any_batch(canonical):
            raise ModelError(
                f"{canonical.name} computes across the axis of images: it can be written for batch 1 only"
            )

    def run(self) -> onnx.ModelProto:
        given = self.nodes()
        names = self.settings.outputs or output_names(self.canonical)
        wanted = zip(names, self.canonical.model.graph.outputs, strict=False)
        made: list[ir.Value] = []
        for name, result in wanted:
            made.append(self.output(name, result, made))
        return self.finished(given, made + (self.probabilities() if self.settings.attention else []))

    def probabilities(self) -> list[ir.Value]:
        """Those of each block's attention, (batch, heads, queries, keys)."""
        found: list[ir.Value] = []
        for node in composites(self.canonical.model.graph, ATTENTION):
            if (node.name or "").startswith("blocks."):
                value = self.writer.probabilities(node)
                value.name, value.dtype = f"{self.settings.attention}.{len(found)}", ir.DataType.FLOAT
                heads, batch = heads_of(node), self.settings.form.batch
                value.shape = ir.Shape([batch or "batch", heads.heads, heads.queries, heads.keys])
                found.append(value)
        return found

    def output(self, name: str, result: ir.Value, others: Sequence[ir.Value] = ()) -> ir.Value:
        output = self.writer.value(result)
        if output.producer() is None:
            raise ModelError(f"{self.canonical.name}: the output {result.name} does not depend on the image")
        if output in others:
            output = self.writer.w.op("Identity", [output], name)
        output.name, output.dtype = name, result.dtype or ir.DataType.FLOAT
        batch = "batch" if self.settings.form.batch is None else self.settings.form.batch
        output.shape = ir.Shape([batch, *(static_shape(result) or ())[1:]])
        return output

    def run_taps(self, taps: Sequence[str]) -> tuple[onnx.ModelProto, list[str]]:
        given = self.nodes()
        outputs = [self.writer.taps[tap] for tap in taps]
        for output in outputs:
            output.dtype = ir.DataType.FLOAT
        distinct = list(dict.fromkeys(outputs))
        return self.finished(given, distinct), [str(output.name) for output in outputs]

    def nodes(self) -> ir.Value:
        """Lower every node; returns the input."""
        given = self.given
        for node in self.canonical.model.graph:
            self.writer.node(node)
        return given

    def finished(self, given: ir.Value, outputs: list[ir.Value]) -> onnx.ModelProto:
        lowered = ir.Graph(
            [given],
            outputs,
            nodes=self.writer.w.nodes,
            initializers=list(self.writer.w.initializers.values()),
            opset_imports={"": WRITTEN.opset},
            name="vit",
        )
        model = ir.Model(lowered, ir_version=WRITTEN.ir, producer_name="vit-edge")
        RemoveUnusedNodesPass()(model)
        if self.settings.form.float_type is FloatType.FLOAT16:
            to_half(model)
        to_versions(model, self.settings.form.versions, self.canonical.name)
        if self.check:
            ShapeInferencePass()(model)
            CheckerPass(full_check=True)(model)
        return ir.to_proto(model)

    def input(self) -> ir.Value:
        form = self.settings.form.input
        shape = self.per_image(self.image)
        if form is InputForm.PIXELS:
            shape = (*shape[1:], shape[0])
        batch = "batch" if self.settings.form.batch is None else self.settings.form.batch
        kind = ir.DataType.FLOAT if form is InputForm.PIXEL_VALUES else ir.DataType.UINT8
        return ir.Value(name=form.value, shape=ir.Shape([batch, *shape]), type=ir.TensorType(kind))

    def per_image(self, value: ir.Value) -> tuple[int, ...]:
        """The shape without the batch dimension."""
        shape = static_shape(value)
        if shape is None or len(shape) < 2:
            raise ModelError(f"{self.canonical.name}: {value.name} has no static shape")
        return shape[1:]
