"""Files whose attention can be looked at: the classifier with the probabilities of each block as outputs."""

import onnx

from vit_edge.errors import ContractError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import possible_form
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.onnx_io import finish, properties
from vit_edge.host.convert.optimize import image_size, normalisation_of
from vit_edge.host.convert.parity import REWRITE_TOLERANCE, check_parity, random_images
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.ort import runner
from vit_edge.host.rewrite.canonical import Canonical, output_names
from vit_edge.host.rewrite.composites import EMBED, composites
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity
from vit_edge.runtime.explain.attention import ATTENTION, ATTENTION_KEY, AttentionLayout, Reads
from vit_edge.spec import ModelForm


def layout_of(canonical: Canonical) -> AttentionLayout:
    """How the attention outputs of a canonical model are to be read.

    Raises:
        ContractError: its attention is no map of one grid, or its head reads other tokens.
    """
    found = canonical.description
    if found is None or len(found.stages) > 1:
        raise ContractError(
            f"{canonical.name} is no ViT with one grid of patches, so that its attention is no map "
            f"({canonical.refusal or 'patches are merged'}): leave --attention out, and explain by occlusion"
        )
    known = {
        "mean": Reads.ALL if found.prefix_tokens else Reads.MEAN,
        f"mean and tokens {found.prefix_tokens}..{found.tokens}": Reads.MEAN,
        **{f"tokens 0..{count}": Reads.CLS for count in range(1, found.prefix_tokens + 1)},
    }
    if found.pooling not in known:
        raise ContractError(
            f"the head of {canonical.name} reads {found.pooling}, from which attention cannot be followed: "
            "leave --attention out, and explain by occlusion"
        )
    patches = patches_of(next(composites(canonical.model.graph, EMBED)))
    grid = patches.rows, patches.columns
    return AttentionLayout(found.depth, patches.prefix, grid, known[found.pooling])


def with_attention(source: Source, form: ModelForm) -> tuple[onnx.ModelProto, Canonical, Parity]:
    """The float32 classifier of a source with attention outputs, and how far its logits lie from the export.

    Raises:
        ContractError: as in `layout_of`, or the source is no canonical ViT.
        VitEdgeError: as in `export`.
    """
    original, _ = export(source)
    canonical = canonical_of(source, original)
    layout = layout_of(canonical)
    settings = LowerSettings(
        possible_form(canonical, form), normalisation_of(source.preprocess), attention=ATTENTION
    )
    model = lower(canonical, settings)
    parity = check_parity(
        runner(original, canonical.name),
        runner(model, f"{canonical.name} with attention", output_names(canonical)[0]),
        random_images(*image_size(canonical)),
        REWRITE_TOLERANCE,
        f"{canonical.name} with attention outputs differs from the export",
    )
    return described(finish(model, metadata_of(source)), layout), canonical, parity


def described(model: onnx.ModelProto, layout: AttentionLayout) -> onnx.ModelProto:
    """A finished file that says how its attention outputs are to be read."""
    onnx.helper.set_model_props(model, {**properties(model), ATTENTION_KEY: layout.to_json()})
    return model
