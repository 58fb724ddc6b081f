"""timm's keys (vision_transformer.py), which are those of our own `VisionTransformer`."""

from vit_edge.host.sources.checkpoints.layout import NAMES, Layout, Resampling
from vit_edge.host.sources.types import Library

TIMM = Layout(
    library="timm",
    marks=(r"patch_embed\.proj\.weight",),
    keys=lambda _: {name: name for name in NAMES},
    resampling=Resampling("timm", antialias=True),  # timm.layers.pos_embed.resample_abs_pos_embed
    layer_norm_eps=1e-6,
    averages=True,
    pipeline=Library.TIMM,
)
