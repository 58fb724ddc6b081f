"""The order of the rewrite rules: graph rules do not commute, so it is written out, never discovered."""

from vit_edge.host.rewrite.rule import Rule
from vit_edge.host.rewrite.rules.collapse_layout import CollapseLayout
from vit_edge.host.rewrite.rules.drop_key_bias import DropKeyBias
from vit_edge.host.rewrite.rules.expand_conv_transpose import ExpandConvTranspose
from vit_edge.host.rewrite.rules.expand_einsum import ExpandEinsum
from vit_edge.host.rewrite.rules.flatten_stream import FlattenStream
from vit_edge.host.rewrite.rules.fold_attention_scale import FoldAttentionScale
from vit_edge.host.rewrite.rules.fold_batch_norm import FoldBatchNorm
from vit_edge.host.rewrite.rules.fold_head_factor import FoldHeadFactor
from vit_edge.host.rewrite.rules.fold_linear_scale import FoldLinearScale
from vit_edge.host.rewrite.rules.fold_norm_affine import FoldNormAffine
from vit_edge.host.rewrite.rules.fold_normalisation import FoldNormalisation
from vit_edge.host.rewrite.rules.fold_padded_prefix import FoldPaddedPrefix
from vit_edge.host.rewrite.rules.fold_positions import FoldPositions
from vit_edge.host.rewrite.rules.fold_prefix import FoldPrefix
from vit_edge.host.rewrite.rules.fold_value_bias import FoldValueBias
from vit_edge.host.rewrite.rules.fuse_gelu import FuseGelu
from vit_edge.host.rewrite.rules.fuse_gelu_tanh import FuseGeluTanh
from vit_edge.host.rewrite.rules.fuse_layer_normalization import FuseLayerNormalization
from vit_edge.host.rewrite.rules.fuse_reciprocal import FuseReciprocal
from vit_edge.host.rewrite.rules.fuse_rms_norm import FuseRmsNorm
from vit_edge.host.rewrite.rules.fuse_swish import FuseSwish
from vit_edge.host.rewrite.rules.merge_bias import MergeBias
from vit_edge.host.rewrite.rules.merge_gate import MergeGate
from vit_edge.host.rewrite.rules.merge_qkv import MergeQkv
from vit_edge.host.rewrite.rules.raise_attention import RaiseAttention
from vit_edge.host.rewrite.rules.raise_embed import RaiseEmbed
from vit_edge.host.rewrite.rules.raise_gate import RaiseGate
from vit_edge.host.rewrite.rules.raise_gemm import RaiseGemm
from vit_edge.host.rewrite.rules.raise_head_norm import RaiseHeadNorm
from vit_edge.host.rewrite.rules.raise_head_unit import RaiseHeadUnit
from vit_edge.host.rewrite.rules.raise_matmul import RaiseMatMul
from vit_edge.host.rewrite.rules.raise_mean import RaiseMean
from vit_edge.host.rewrite.rules.raise_permute import RaisePermute
from vit_edge.host.rewrite.rules.raise_rotary import RaiseRotary
from vit_edge.host.rewrite.rules.raise_select import RaiseSelect
from vit_edge.host.rewrite.rules.raise_unit import RaiseUnit
from vit_edge.host.rewrite.rules.remove_neutral_arithmetic import RemoveNeutralArithmetic
from vit_edge.host.rewrite.rules.remove_neutral_layout import RemoveNeutralLayout
from vit_edge.host.rewrite.rules.remove_softmax_guard import RemoveSoftmaxGuard
from vit_edge.host.rewrite.rules.share_select import ShareSelect
from vit_edge.host.rewrite.rules.sink_select import SinkSelect
from vit_edge.host.rewrite.rules.sink_shuffle import SinkShuffle

# Each stage repeats until nothing fires. The place of a rule decides which of two rules sees a node first,
# and spares a round where one rule makes what the next looks for; the reason stands beside it.

RAISE: tuple[type[Rule], ...] = (
    RemoveSoftmaxGuard,  # the guard is a Where, at which RaiseAttention would stop
    RemoveNeutralArithmetic,  # a mask of zeros or a product with one hides the neighbours from all below
    RemoveNeutralLayout,  # as RemoveNeutralArithmetic, of padding by nothing
    FuseReciprocal,  # a written-out normalization may multiply by 1 / deviation
    FuseLayerNormalization,  # before any rule takes the Mul and Add behind it for those of something else
    FuseRmsNorm,  # behind FuseLayerNormalization, whose deviation is a root of a mean square, too
    FoldNormAffine,  # completes the nodes that both have just made
    FuseGelu,  # its Mul by a half must be gone before FoldLinearScale looks for one
    FuseGeluTanh,  # as FuseGelu
    FuseSwish,  # as FuseGelu; its inner factor is no scale of a layer
    ExpandEinsum,  # makes products for RaiseMatMul and RaiseAttention
    RaiseGemm,  # the Linears that the folds below add to
    RaiseMatMul,  # as RaiseGemm; leaves to RaiseAttention the products of two computed values alone
    FoldBatchNorm,  # before RaiseEmbed, which sees no convolution afterwards
    ExpandConvTranspose,  # behind FoldBatchNorm, which goes into its weight
    SinkShuffle,  # behind ExpandConvTranspose, which makes what it moves
    RaiseEmbed,  # the Embed that the folds below add to
    CollapseLayout,  # the folds below look through one Reshape, not through a chain
    MergeBias,  # a bias stands between a product and its scale, so it goes in before FoldLinearScale
    FoldLinearScale,  # behind MergeBias: (xW + b) * c takes b along
    FoldNormalisation,  # needs the Embed and nothing else; its rows of the prefix stay as they are
    FoldPrefix,  # before FoldPositions: positions cover the CLS token too
    FoldPaddedPrefix,  # as FoldPrefix, in the spelling of our own files
    FoldPositions,  # needs all rows of the table
    RaiseGate,  # needs Linears with their biases
    RaiseHeadNorm,  # needs Linears; FlattenStream would take it for a normalization of the stream
    RaiseHeadUnit,  # as RaiseHeadNorm
    FoldHeadFactor,  # before RaiseAttention, which knows one scale for all heads
    RaiseRotary,  # behind RaiseHeadNorm, which stands between the Linear and the rotation
    RaiseAttention,  # needs Linears with their final weights, whose columns it reorders
    RaiseSelect,  # behind RaiseAttention: the Gather and Slice that part q, k and v are not selections
    RaiseUnit,  # behind FuseLayerNormalization, which owns the other quotients
    RaiseMean,  # behind FuseLayerNormalization, which owns the other ReduceMean
    RaisePermute,  # behind RaiseAttention and RaiseSelect, whose layouts are no order of tokens
    FlattenStream,  # last: its Reshapes would stand inside the patterns above
)

FOLD: tuple[type[Rule], ...] = (
    FoldAttentionScale,  # first, as it makes new queries, which SinkSelect may cut to a few rows
    DropKeyBias,  # before the merge, where one bias is left for all three projections
    FoldValueBias,  # as DropKeyBias, and before SinkSelect moves a selection between the two Linears
    ShareSelect,  # before SinkSelect, which moves a selection only where it is the one reader
    SinkSelect,  # last of its stage: the longer way, one operator a round
)

MERGE: tuple[type[Rule], ...] = (
    MergeQkv,  # selections must have reached the queries, and biases be gone
    MergeGate,  # selections must have passed both halves
)

STAGES: tuple[tuple[type[Rule], ...], ...] = (RAISE, FOLD, MERGE)
