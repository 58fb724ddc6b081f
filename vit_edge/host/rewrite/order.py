"""The order of the rewrite rules: graph rules do not commute, so it is written out, never discovered."""

from vit_edge.host.rewrite.rule import Rule
from vit_edge.host.rewrite.rules.collapse_layout import CollapseLayout
from vit_edge.host.rewrite.rules.drop_key_bias import DropKeyBias
from vit_edge.host.rewrite.rules.flatten_stream import FlattenStream
from vit_edge.host.rewrite.rules.fold_attention_scale import FoldAttentionScale
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
from vit_edge.host.rewrite.rules.merge_bias import MergeBias
from vit_edge.host.rewrite.rules.merge_qkv import MergeQkv
from vit_edge.host.rewrite.rules.raise_attention import RaiseAttention
from vit_edge.host.rewrite.rules.raise_embed import RaiseEmbed
from vit_edge.host.rewrite.rules.raise_gemm import RaiseGemm
from vit_edge.host.rewrite.rules.raise_matmul import RaiseMatMul
from vit_edge.host.rewrite.rules.raise_mean import RaiseMean
from vit_edge.host.rewrite.rules.raise_select import RaiseSelect
from vit_edge.host.rewrite.rules.remove_neutral_arithmetic import RemoveNeutralArithmetic
from vit_edge.host.rewrite.rules.remove_softmax_guard import RemoveSoftmaxGuard
from vit_edge.host.rewrite.rules.share_select import ShareSelect
from vit_edge.host.rewrite.rules.sink_select import SinkSelect

RAISE: tuple[type[Rule], ...] = (
    RemoveSoftmaxGuard,
    RemoveNeutralArithmetic,
    FuseLayerNormalization,
    FoldNormAffine,
    FuseGelu,
    FuseGeluTanh,
    RaiseGemm,
    RaiseMatMul,
    RaiseEmbed,
    CollapseLayout,
    MergeBias,
    FoldLinearScale,
    FoldNormalisation,
    FoldPrefix,
    FoldPaddedPrefix,
    FoldPositions,
    RaiseAttention,
    RaiseSelect,
    RaiseMean,
    FlattenStream,
)

FOLD: tuple[type[Rule], ...] = (
    FoldAttentionScale,
    DropKeyBias,
    FoldValueBias,
    ShareSelect,
    SinkSelect,
)

MERGE: tuple[type[Rule], ...] = (MergeQkv,)  # last: selections must have reached the queries

STAGES: tuple[tuple[type[Rule], ...], ...] = (RAISE, FOLD, MERGE)
