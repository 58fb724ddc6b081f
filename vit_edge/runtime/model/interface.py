"""What a model file takes and gives: by the names of the contract, or as another tool calls and lays it out.

Files of ours take `pixel_values` float32 (N, 3, H, W) or `pixels` uint8 (N, H, W, 3) and give `logits`. Those
of other makers have one image under any name, float32 or float16 and normalised or uint8 and not, with the
channels at either end, and scores (N, C) under any name.
"""

import dataclasses

from vit_edge.runtime.model.header import FLOAT, FLOAT16, UINT8, OnnxHeader, TensorInfo
from vit_edge.spec import CLS_EMBEDDING, LOGITS, MAX_BATCH, PATCH_FEATURES, POOLED_EMBEDDING, InputForm

COLOURS = 3
MAX_SIDE = 4096  # pixels

_EMBEDDER = frozenset({CLS_EMBEDDING, POOLED_EMBEDDING, PATCH_FEATURES})


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The one input of a model file."""

    name: str
    form: InputForm  # normalised numbers, or the pixels themselves
    batch: int | None  # None: any
    size: tuple[int, int] | None  # pixels (height, width); None where the file leaves it open
    channels_last: bool
    half: bool = False  # float16 numbers

    @property
    def usual(self) -> bool:
        """Whether the layout is that of the contract."""
        return self.channels_last is (self.form is InputForm.PIXELS)


def image_input(header: OnnxHeader) -> ImageInput:
    """The input, checked.

    Raises:
        ValueError: it is no batch of RGB images; the message goes on from the file's name.
    """
    if len(header.inputs) != 1:
        names = [info.name for info in header.inputs[:8]]
        raise ValueError(f"has the inputs {names}; it must have one, a batch of images")
    info = header.inputs[0]
    form = _form(info)
    batch, channels_last, height, width = _layout(info, form)
    check_range(batch, MAX_BATCH, "batch size")
    check_range(height, MAX_SIDE, "image height")
    check_range(width, MAX_SIDE, "image width")
    size = None if height is None or width is None else (height, width)
    return ImageInput(info.name, form, batch, size, channels_last, info.elem_type == FLOAT16)


def is_embedder(header: OnnxHeader) -> bool:
    """Whether the outputs are those of an embedder, not of a classifier.

    Raises:
        ValueError: some of them are, or two outputs have one name.
    """
    names = [info.name for info in header.outputs]
    if len(set(names)) != len(names):
        raise ValueError(f"has two outputs of one name among {names[:8]}; export it again")
    if LOGITS in names or not _EMBEDDER & set(names):
        return False
    if {POOLED_EMBEDDING, PATCH_FEATURES} <= set(names):
        return True
    raise ValueError(
        f"has the outputs {names[:8]}; one must be named {LOGITS}, or of an embedder two must be named "
        f"{POOLED_EMBEDDING} and {PATCH_FEATURES}"
    )


def as_float32(info: TensorInfo) -> TensorInfo:
    """A tensor of float16, which is converted on the way in and out, as one of float32."""
    return dataclasses.replace(info, elem_type=FLOAT) if info.elem_type == FLOAT16 else info


def check_tensor(info: TensorInfo, elem_type: int, expected: str, rank: int) -> None:
    """Refuse a tensor of another type or rank.

    Raises:
        ValueError: the message goes on from the file's name.
    """
    if info.elem_type != elem_type or info.dims is None or len(info.dims) != rank:
        shape = "unknown" if info.dims is None else list(info.dims)
        raise ValueError(
            f"has {info.name} of ONNX type {info.elem_type} and shape {shape}; it must be {expected}"
        )


def check_range(value: int | None, most: int, what: str) -> None:
    """Refuse a size outside 1 to `most`; None is open.

    Raises:
        ValueError: the message goes on from the file's name.
    """
    if value is not None and not 1 <= value <= most:
        raise ValueError(f"has {what} {value}; it must be from 1 to {most}")


def _form(info: TensorInfo) -> InputForm:
    """By the name where it is one of the contract's, by the type elsewhere."""
    by_type = InputForm.PIXELS if info.elem_type == UINT8 else InputForm.PIXEL_VALUES
    form = next((each for each in InputForm if each.value == info.name), by_type)
    if form is InputForm.PIXELS:
        check_tensor(info, UINT8, "uint8 (N, height, width, 3)", 4)
    else:
        check_tensor(as_float32(info), FLOAT, "float32 (N, 3, height, width)", 4)
    return form


def _layout(info: TensorInfo, form: InputForm) -> tuple[int | None, bool, int | None, int | None]:
    """(batch, whether the channels are last, height, width)."""
    batch, first, third, last = info.dims or (None,) * 4
    at_end, at_front = last == COLOURS, first == COLOURS
    channels_last = at_end if at_end is not at_front else form is InputForm.PIXELS
    channels = last if channels_last else first
    if channels not in (COLOURS, None):
        raise ValueError(f"takes images of {channels} channels; it must take 3 (RGB)")
    return (batch, True, first, third) if channels_last else (batch, False, third, last)
