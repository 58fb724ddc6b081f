"""A picture of one or two maps beside the image: overlay, scale and answers, drawn with Pillow alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_edge.arrays import Float32, Pixels
from vit_edge.runtime.explain.explainer import Explanation, Method, correlation

SIDE = 320  # pixels of a panel's longer side
_GAP = 16
_LINE = 18
_BAR = 12
_TEXT = 13
_OPACITY = 0.6  # of the heat
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
# From dark to light with even steps of lightness, so that it reads in grey, too; red is warm.
_HEAT = ((13, 8, 70), (94, 17, 120), (170, 45, 100), (225, 95, 55), (248, 165, 35), (250, 235, 130))
# Of what speaks against and for a class, white where nothing does.
_SIGNED = ((33, 80, 170), (140, 180, 225), (247, 247, 247), (240, 165, 130), (178, 24, 43))


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A map with the name of the model that it is of."""

    name: str
    explanation: Explanation


def draw(shown: Sequence[Shown]) -> Image.Image:
    """The image, then each map over it, with the scale and the likeliest answers below.

    Args:
        shown: one, or two of the same image and method, which then are drawn to one scale.

    Returns:
        An RGB image.
    """
    first = shown[0].explanation
    size = _panel_size(first.pixels)
    low, high = _range([each.explanation for each in shown])
    lines = 2 + max(len(each.explanation.predictions) for each in shown)
    footer = _BAR + 2 * _LINE + lines * _LINE
    width = _GAP + (len(shown) + 1) * (size[0] + _GAP)
    canvas = Image.new("RGB", (width, size[1] + 3 * _GAP + _LINE + footer), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT)
    image = Image.fromarray(first.pixels).resize(size, Image.Resampling.BICUBIC)
    _panel(canvas, pen, font, _GAP, "what the model sees", image)
    for place, each in enumerate(shown, start=1):
        left = _GAP + place * (size[0] + _GAP)
        colours = _coloured(_enlarged(each.explanation.heat, size), low, high, _signed(first))
        grey = image.convert("L").convert("RGB")
        _panel(canvas, pen, font, left, each.name, Image.blend(grey, colours, _OPACITY))
        top = _GAP + _LINE + size[1] + _GAP
        _scale(canvas, pen, font, (left, top), size[0], (low, high), _signed(first))
        for line, text in enumerate(_words(each.explanation)):
            pen.text((left, top + _BAR + (line + 1) * _LINE), text, fill=_INK, font=font)
    if len(shown) == 2:
        found = correlation(first.heat, shown[1].explanation.heat)
        text = "correlation of both maps: " + ("none, one is flat" if found is None else f"{found:.3f}")
        pen.text((_GAP, _GAP + _LINE + size[1] + _GAP), text, fill=_INK, font=font)
    return canvas


def _panel_size(pixels: Pixels) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _signed(explanation: Explanation) -> bool:
    return explanation.method is Method.OCCLUSION


def _range(all_maps: Sequence[Explanation]) -> tuple[float, float]:
    """Of the scale: even about zero where the map speaks for and against."""
    low = min(float(each.heat.min()) for each in all_maps)
    high = max(float(each.heat.max()) for each in all_maps)
    if _signed(all_maps[0]):
        reach = max(abs(low), abs(high), 1e-6)
        return -reach, reach
    return (low, high) if high > low else (low, low + 1e-6)


def _enlarged(heat: Float32, size: tuple[int, int]) -> Float32:
    picture = Image.fromarray(np.asarray(heat, np.float32))  # of mode F
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)


def _coloured(heat: Float32, low: float, high: float, signed: bool) -> Image.Image:
    stops = np.asarray(_SIGNED if signed else _HEAT, np.float64)
    place = np.clip((heat - low) / (high - low), 0.0, 1.0) * (len(stops) - 1)
    known = np.arange(len(stops))
    channels = [np.interp(place, known, stops[:, channel]) for channel in range(3)]
    return Image.fromarray(np.rint(np.stack(channels, axis=-1)).astype(np.uint8))


def _panel(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, font: object, left: int, title: str, image: Image.Image
) -> None:
    pen.text((left, _GAP), _plain(title), fill=_INK, font=font)  # type: ignore[arg-type]
    canvas.paste(image, (left, _GAP + _LINE))


def _scale(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: object,
    corner: tuple[int, int],
    width: int,
    reach: tuple[float, float],
    signed: bool,
) -> None:
    """A bar of all colours with its ends in numbers."""
    low, high = reach
    ramp = np.broadcast_to(np.linspace(low, high, width, dtype=np.float32), (_BAR, width))
    canvas.paste(_coloured(np.asarray(ramp, np.float32), low, high, signed), corner)
    left, top = corner
    pen.text((left, top + _BAR), f"{low:.2g}", fill=_INK, font=font)  # type: ignore[arg-type]
    end = f"{high:.2g}"
    length = round(pen.textlength(end, font=font))  # type: ignore[arg-type]
    pen.text((left + width - length, top + _BAR), end, fill=_INK, font=font)  # type: ignore[arg-type]


def _words(explanation: Explanation) -> list[str]:
    about = {
        Method.OCCLUSION: f"fall in the probability of {explanation.target} when covered",
        Method.ROLLOUT: "attention rolled out through all blocks",
        Method.CLS: "attention of the last block",
        Method.GRADIENT: f"attention by its gradient for {explanation.target}",
    }[explanation.method]
    answers = [f"{100 * each.score:5.1f} %  {each.label}" for each in explanation.predictions]
    return [_plain(text) for text in (about, *answers)]


def _plain(text: str) -> str:
    """What the built-in font can show, on one line and not endless."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return shown.encode("latin-1", "replace").decode("latin-1")[:60]
