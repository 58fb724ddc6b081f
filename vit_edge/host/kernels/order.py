"""The order of the rules."""

from vit_edge.host.kernels.rules.merge_activation import MergeActivation
from vit_edge.host.kernels.rules.merge_codes import MergeCodes
from vit_edge.host.kernels.rules.merge_residual import MergeResidual
from vit_edge.host.kernels.rules.merge_row_codes import MergeRowCodes
from vit_edge.host.kernels.rules.raise_core import RaiseCore
from vit_edge.host.kernels.rules.raise_product import RaiseProduct
from vit_edge.host.kernels.rules.raise_row_product import RaiseRowProduct
from vit_edge.host.rewrite.rule import Rule

RULES: tuple[type[Rule], ...] = (
    RaiseProduct,  # the Linears that the others add to
    RaiseRowProduct,  # as RaiseProduct
    RaiseCore,  # reads the quantizers of its operands, which MergeCodes would take away
    MergeActivation,  # before MergeResidual: a residual is added behind it
    MergeResidual,  # before MergeCodes, whose results can be added to nothing
    MergeCodes,  # behind all that may stand between a Linear and its quantizer
    MergeRowCodes,  # as MergeCodes
)
