"""The range of every tensor, for devices that compute every operator in integers."""

from collections.abc import Sequence

import numpy as np
import onnx

from vit_edge.arrays import Float32, Pixels
from vit_edge.errors import ModelError
from vit_edge.host.lower.full_integer import float_settings
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.plan import FullIntegerPlan, QuantPlan
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.types import Form
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import Step


def full_integer_plan(
    canonical: Canonical,
    settings: LowerSettings,
    plans: LayerPlans,
    images: Sequence[Pixels],
    progress: Step,
) -> FullIntegerPlan:
    """Weights as in any INT8 file, and of every tensor the smallest and largest value.

    Nothing is cut off: an outlier that one layer's range may clip is what the token stream exists to carry.

    Args:
        canonical: the folded model.
        settings: `pixels` input.
        plans: of the layers.
        images: uint8 (H, W, 3) each.
        progress: called after each image with (done, count).

    Raises:
        ModelError: the patch embedding was not recognised, or a value is not finite.
    """
    if plans.embed is None:
        raise ModelError(f"{canonical.name}: its patch embedding was not recognised, so it stays float")
    model = lower(canonical, float_settings(settings), QuantPlan(embed=plans.embed))
    known = {output.name for output in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(
        value
        for value in model.graph.value_info
        if value.name in made - known and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
    session = load(model.SerializeToString(), constants_only=True)
    names, given = [output.name for output in session.get_outputs()], settings.form.input.value
    low: dict[str, Float32] = {}
    high: dict[str, Float32] = {}
    for done, pixels in enumerate(images, 1):
        for name, values in zip(names, session.run(names, {given: pixels[None]}), strict=True):
            last = values.reshape(-1, values.shape[-1] if values.ndim else 1)  # rows of the last axis
            low[name] = np.minimum(low.get(name, np.inf), last.min(axis=0))
            high[name] = np.maximum(high.get(name, -np.inf), last.max(axis=0))
        progress(done, len(images))
    if not all(np.isfinite(ends).all() for ends in (*low.values(), *high.values())):
        raise ModelError(f"{canonical.name}: gets values that are not finite; look for a broken checkpoint")
    linears = {name: forms[Form.STATIC] for name, forms in plans.linears.items()}
    results = {node.name: node.output[0] for node in model.graph.node if node.name in linears}
    return FullIntegerPlan(
        linears,
        {name: forms[Form.STATIC] for name, forms in plans.attentions.items()},
        plans.embed,
        {name: (float(low[name].min()), float(high[name].max())) for name in names},
        {name: (low[made], high[made]) for name, made in results.items()},
    )
