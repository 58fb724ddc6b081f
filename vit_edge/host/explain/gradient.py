"""Attention rolled out by what it does for one class.

Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers (ICCV 2021), equations 5 and 6: of each block the mean over heads of what is positive of the
attention times the gradient of the class's logit by it, and R <- R + A R from the identity on. Only the rows
that the head reads are followed, as a last block may compute no others.

The canonical form has no bias of values: weights of attention add up to one, so that it reaches every token
alike and belongs to the projection behind. The gradient by a weight is without its share, too.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from vit_edge.arrays import Float32, Pixels
from vit_edge.errors import ContractError, ModelError
from vit_edge.host.convert.attention import layout_of
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import Lowered, LowerSettings, lower_nodes
from vit_edge.host.quantize.walk import Constants, Values, needed_for, step
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.runtime.explain.attention import on_grid, start_of
from vit_edge.runtime.explain.explainer import Explainer, Method
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import InputForm, ModelForm


class GradientExplainer(Explainer):
    """An `Explainer` that knows gradients as well, of files in float.

    Arguments and errors are those of `Explainer`.
    """

    _canonical: Canonical | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those that this file can do."""
        return (*super().methods, Method.GRADIENT)

    def _by_gradient(self, pixels: Pixels, index: int) -> Float32:
        file = self._session.model
        if self._canonical is None:
            self._canonical = _canonical(file)
        settings = LowerSettings(ModelForm(1, InputForm.PIXELS), normalisation_of(file.preprocess))
        return gradient_rollout(self._canonical, settings, pixels, index)


def gradient_rollout(canonical: Canonical, settings: LowerSettings, pixels: Pixels, index: int) -> Float32:
    """How far each patch speaks for a class, by attention and its gradients.

    Args:
        canonical: a classifier.
        settings: batch 1 and `pixels`.
        pixels: (H, W, 3) uint8, as the model sees them.
        index: of the class, among the numbers of the first output.

    Returns:
        (rows, columns) float32, not negative; relevance of prefix tokens is left out.

    Raises:
        ContractError: the attention is no map of one grid.
    """
    layout = layout_of(canonical)
    lowered = lower_nodes(canonical, settings)
    attentions = [lowered.taps[f"blocks.{block}.attention.p"] for block in range(layout.blocks)]
    made = _run(lowered, pixels, [*attentions, lowered.outputs[0]])
    logits, probabilities = made[-1], made[:-1]
    slopes = torch.autograd.grad(logits.reshape(-1)[index], probabilities)
    flow = start_of(probabilities[-1].shape[-2], layout)
    for attention, slope in zip(reversed(probabilities), reversed(slopes), strict=True):
        helpful = (attention * slope).clamp(min=0).mean(dim=1)[0].detach().numpy().astype(np.float64)
        kept = np.zeros(helpful.shape[1])
        kept[: len(flow)] = flow  # the queries of the last block may be the first tokens alone
        flow = kept + flow @ helpful
    return on_grid(flow, layout)


def _run(lowered: Lowered, pixels: Pixels, wanted: Sequence[ir.Value]) -> list[Tensor]:
    """Some values of the model for one image, with all that gradients need."""
    values: Values = {lowered.given: torch.tensor(pixels[None])}
    constants, first = Constants(), wanted[0]
    for node in needed_for([*lowered.outputs], lowered.nodes):
        step(node, values, constants)
        if first in node.outputs:  # gradients begin at the first attention; weights have none
            values[node.outputs[0]] = values[node.outputs[0]].detach().requires_grad_()
    return [values[value] for value in wanted]


def _canonical(file: ModelFile) -> Canonical:
    """The classifier alone: a file may give attention beside its logits."""
    name, given = str(file.path), onnx.load(file.path)
    answers = [output for output in given.graph.output if output.name == file.scores]
    del given.graph.output[:]
    given.graph.output.extend(answers)
    try:
        return canonicalise(normal_form(given, name), name)
    except (ContractError, ModelError) as error:
        told = "gradients are those of a plain ViT in float: explain others by occlusion"
        raise type(error)(f"{error}; {told}") from None
