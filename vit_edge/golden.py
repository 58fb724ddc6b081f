"""The self-test of a bundle: inputs as pixels and what a model file must give for them.

`golden/*.png` hold RGB images of exactly the model's size: no resize stands between them and the model.
`golden/expected.json` is a list of objects with the keys `image`, `model` and `tolerance`, as in
`GoldenCase`, and one more, the name of an output, which holds its values. `arithmetic` MAY be there: "exact"
or "saturating", how integer products were added where the values were computed.

`golden/cases.json` holds some of the cases for other languages, see docs/golden.md; `vit_edge.package`
hands it on.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vit_edge import fields
from vit_edge.bundle import Bundle
from vit_edge.errors import BundleError
from vit_edge.spec import CLS_EMBEDDING, EMBEDDING, LOGITS, POOLED_EMBEDDING, Arithmetic

Floats = npt.NDArray[np.float32]

EXPECTED = "golden/expected.json"
TENSORS = "golden/cases.json"

MAP = "map"  # numbers spread evenly over the first map of a model of maps, see `spread`
# without patches, which are hundreds of times as many numbers
OUTPUTS = (LOGITS, EMBEDDING, CLS_EMBEDDING, POOLED_EMBEDDING, MAP)
_SPREAD = 2048  # of a map's numbers at most

_MAX_BYTES = 64 * 2**20  # three images, ten models and 20,000 classes take a quarter of it
_MOST_IMAGES = 64  # three are recorded; each is decoded for every model
_MOST_CASES = 4096
_BYTES_PER_PIXEL, _MOST_BESIDE = 4, 65_536  # of a PNG: pixels that do not compress take three and a bit


@dataclasses.dataclass(frozen=True)
class GoldenCase:
    """One input and what one model must answer."""

    image: str  # path in the bundle
    model: str  # path in the bundle
    values: tuple[float, ...]
    tolerance: float  # largest allowed absolute difference of a value
    output: str = LOGITS  # one of OUTPUTS
    # In which integer products were added; None: a float model, or a bundle from before this was recorded
    arithmetic: Arithmetic | None = None


def spread(values: Floats) -> Floats:
    """Of a map (...) every k-th number in the order of memory, k the least that leaves at most 2,048."""
    flat = values.reshape(-1)
    return flat[:: max(1, -(-flat.size // _SPREAD))]


def golden_bytes(cases: Iterable[GoldenCase]) -> bytes:
    """The content of `golden/expected.json`."""
    raw = [
        {"image": case.image, "model": case.model, case.output: case.values, "tolerance": case.tolerance}
        | ({} if case.arithmetic is None else {"arithmetic": case.arithmetic.value})
        for case in cases
    ]
    return json.dumps(raw, indent=1, allow_nan=False).encode()


def read_golden(bundle: Bundle) -> tuple[GoldenCase, ...]:
    """The cases of a bundle, empty where it has none.

    Raises:
        BundleError: the file is malformed, a case speaks of a file that the bundle does not list, or there
            are more cases, or more or larger images, than a self-test needs.
    """
    if EXPECTED not in bundle.manifest.files:
        return ()
    if bundle.manifest.files[EXPECTED].size > _MAX_BYTES:
        raise BundleError(f"{bundle.path / EXPECTED} is larger than {_MAX_BYTES} bytes")
    try:
        raw = fields.parse_json(bundle.read(EXPECTED), "the file")
        items = fields.sequence(raw, "the file")
        if len(items) > _MOST_CASES:
            raise ValueError(f"more than {_MOST_CASES} cases")
        cases = tuple(map(_case, items))
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{bundle.path / EXPECTED}: {error}") from None
    for case in cases:
        for name in (case.image, case.model):
            if name not in bundle.manifest.files:
                raise BundleError(
                    f"{bundle.path / EXPECTED} speaks of {fields.shown(name)}, which the bundle does not list"
                )
    _check_images(bundle, cases)
    return cases


def _check_images(bundle: Bundle, cases: Sequence[GoldenCase]) -> None:
    """Refuse more images, or larger ones, than a self-test needs, before one of them is read."""
    images = dict.fromkeys(case.image for case in cases)
    if len(images) > _MOST_IMAGES:
        raise BundleError(f"{bundle.path / EXPECTED} speaks of more than {_MOST_IMAGES} images")
    spec = bundle.manifest.preprocess
    most = _BYTES_PER_PIXEL * spec.height * spec.width + _MOST_BESIDE
    for name in images:
        if bundle.manifest.files[name].size > most:
            raise BundleError(
                f"{bundle.path / name} is longer than any picture of {spec.height} x {spec.width} pixels"
            )


def _case(raw: object) -> GoldenCase:
    given = fields.mapping(raw, "each case")
    output = next((name for name in OUTPUTS if name in given), LOGITS)
    needed = frozenset({"image", "model", output, "tolerance"})
    keys = fields.exact_keys(given, needed, "each case", optional=frozenset({"arithmetic"}))
    tolerance = fields.number(keys["tolerance"], "tolerance")
    if tolerance < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    return GoldenCase(
        image=fields.string(keys["image"], "image"),
        model=fields.string(keys["model"], "model"),
        values=tuple(
            fields.number(value, f"each of {output}") for value in fields.sequence(keys[output], output)
        ),
        tolerance=tolerance,
        output=output,
        arithmetic=_arithmetic(keys.get("arithmetic")),
    )


def held_to(
    cases: Iterable[GoldenCase], arithmetic: Arithmetic | None
) -> tuple[tuple[GoldenCase, ...], Arithmetic | None]:
    """The cases of one model that a device is held to.

    Args:
        cases: of one model.
        arithmetic: of the device; None where it is not known.

    Returns:
        Those of its arithmetic, or of the only one that is recorded; and which that is, None where none is.
    """
    given = tuple(cases)
    recorded = dict.fromkeys(case.arithmetic for case in given)
    chosen = arithmetic if arithmetic in recorded else next(iter(recorded), None)
    return tuple(case for case in given if case.arithmetic is chosen), chosen


def _arithmetic(raw: object) -> Arithmetic | None:
    if raw is None:
        return None
    known = {kind.value: kind for kind in (Arithmetic.EXACT, Arithmetic.SATURATING)}
    named = fields.string(raw, "arithmetic")
    if named not in known:
        raise ValueError(f"arithmetic must be one of {', '.join(known)}, got {fields.shown(raw)}")
    return known[named]
