"""Every layout that is read, and what is refused by its keys: the one list that a new layout joins."""

import re
from collections.abc import Iterable, Mapping

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.form import Form
from vit_edge.host.sources.checkpoints.layout import Layout
from vit_edge.host.sources.checkpoints.layouts.huggingface import HUGGINGFACE, HUGGINGFACE_5
from vit_edge.host.sources.checkpoints.layouts.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from vit_edge.host.sources.checkpoints.layouts.swin import TIMM_SWIN, TORCHVISION_SWIN
from vit_edge.host.sources.checkpoints.layouts.timm import TIMM
from vit_edge.host.sources.checkpoints.layouts.timm_forms import TIMM_VARIED
from vit_edge.host.sources.checkpoints.layouts.torchvision import TORCHVISION, TORCHVISION_0_12
from vit_edge.host.sources.checkpoints.swin import SwinForm

# The first that fits is taken.
LAYOUTS: tuple[Layout, ...] = (TIMM, HUGGINGFACE_5, HUGGINGFACE, TORCHVISION, TORCHVISION_0_12)
# Of models that are no plain ViT; looked at before those above.
FORMS: tuple[Form | SwinForm, ...] = (
    OPEN_CLIP,
    OPEN_CLIP_TIMM,
    TORCHVISION_SWIN,
    TIMM_SWIN,
    TIMM_VARIED,
)

_LIBRARY = (
    "has the keys that {} keeps a ViT under, which are not read: pass the model itself as module:callable"
)
# What a key fits in full by which something is known that is not read, and what is said of it.
NOT_READ: Mapping[str, str] = {
    r"embeddings\.patch_embeddings\.projection\.weight": (
        "is a backbone without classifier: pass a classifier's checkpoint"
    ),
    r".*patch_embed\.projection\.weight": _LIBRARY.format("OpenMMLab (mmpretrain)"),
}


def anchor() -> re.Pattern[str]:
    """Fits the key by which weights of any layout are recognised; `prefix` is what stands before it.

    The shortest prefix, so that a trunk of timm in a CLIP is a CLIP.
    """
    first = (*(form.marks[0] for form in FORMS), *(layout.marks[0] for layout in LAYOUTS))
    marks = "|".join(first)
    return re.compile(rf"(?P<prefix>(?:.+?\.)??)(?:{marks})")


def detect_form(keys: Iterable[str]) -> Form | SwinForm | None:
    """The form that weights have; None where they are of a plain ViT, or unknown."""
    present = tuple(keys)
    return next((form for form in FORMS if form.fits(present)), None)


def detect_layout(keys: Iterable[str], where: str) -> Layout:
    """Recognise the layout by its marks.

    Raises:
        SourceError: no known layout; the message shows some of the keys found.
    """
    present = tuple(keys)
    for layout in LAYOUTS:
        if layout.fits(present):
            return layout
    for pattern, refusal in NOT_READ.items():
        if any(re.fullmatch(pattern, key) for key in present):
            raise SourceError(f"{where} {refusal}")
    libraries = " nor ".join(dict.fromkeys(f"{layout.library}'s" for layout in LAYOUTS))
    shown = ", ".join(sorted(present)[:4]) or "none"
    raise SourceError(
        f"{where} has neither {libraries} keys of a ViT or DeiT (found {shown}, ...): "
        "pass a classifier's checkpoint, or the model itself as module:callable"
    )
