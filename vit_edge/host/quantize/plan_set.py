"""The forms of every layer for each arithmetic that was asked for: ranges and weights, nothing decided."""

import dataclasses
from collections.abc import Collection, Mapping

from vit_edge.host.plan import FullIntegerPlan
from vit_edge.host.quantize.attention_reach import AttentionReach, attention_reaches
from vit_edge.host.quantize.calibration import Calibration, Folded
from vit_edge.host.quantize.full_integer import full_integer_plan
from vit_edge.host.quantize.plans import LayerPlans, plan_layers
from vit_edge.host.quantize.reduced_range import reduced_plans
from vit_edge.host.quantize.types import Form
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.progress import Progress, step_of
from vit_edge.spec import Arithmetic


@dataclasses.dataclass(frozen=True)
class PlanSet:
    """What every layer may become."""

    exact: LayerPlans
    """Eight bits everywhere."""
    by_arithmetic: Mapping[Arithmetic, LayerPlans]
    """Those asked for that leave some operators in float."""
    full_integer: FullIntegerPlan | None
    """For integer arithmetic alone, if it was asked for; nothing is chosen there."""

    @property
    def arithmetic(self) -> Arithmetic:
        """That for which the forms of the layers are chosen: the first that was asked for."""
        return next(iter(self.by_arithmetic), Arithmetic.EXACT)

    @property
    def meant(self) -> LayerPlans:
        """Of that arithmetic."""
        return self.by_arithmetic.get(self.arithmetic, self.exact)


def plan_set(
    folded: Folded, arithmetics: Collection[Arithmetic], progress: Progress | None = None
) -> PlanSet:
    """Find ranges and round weights.

    Args:
        folded: the model.
        arithmetics: what plans are made for.
        progress: called with (what, done, count).

    Raises:
        ModelError: integer arithmetic was asked for, and the patch embedding was not recognised, or a value
            is not finite.
    """
    canonical, calibration = folded.canonical, folded.calibration
    graph, normal = canonical.model.graph, calibration.lowering.normalisation
    linears = {str(node.name): node for node in composites(graph, LINEAR)}
    attentions = {str(node.name): node for node in composites(graph, ATTENTION)}
    tell = step_of(progress, "round weights")
    exact = plan_layers(graph, linears, attentions, calibration.seen, normal, tell)
    made: dict[Arithmetic, LayerPlans] = {
        kind: exact for kind in arithmetics if kind is not Arithmetic.INTEGER
    }
    if Arithmetic.SATURATING in made:
        reaches = reaches_of(canonical, calibration, exact, progress)
        made[Arithmetic.SATURATING] = reduced_plans(exact, graph, calibration.seen, reaches, normal)
    full_integer = None
    if Arithmetic.INTEGER in arithmetics:
        pixels = [*calibration.corrected, *calibration.probed]
        tell = step_of(progress, "observe every tensor")
        full_integer = full_integer_plan(canonical, calibration.lowering, exact, pixels, tell)
    return PlanSet(exact, made, full_integer)


def reaches_of(
    canonical: Canonical, calibration: Calibration, plans: LayerPlans, progress: Progress | None
) -> dict[str, AttentionReach]:
    """How large the pair sums of a model's attentions get on the probe images."""
    static = {name: forms[Form.STATIC] for name, forms in plans.attentions.items()}
    tell = step_of(progress, "measure pair sums")
    return attention_reaches(canonical, calibration.lowering, static, calibration.probed, tell)
