"""The self-test of a bundle: inputs as pixels and what a model file must give for them.

`golden/*.png` hold RGB images of exactly the model's size: no resize stands between them and the model.
`golden/expected.json` is a list of objects with the keys `image`, `model` and `tolerance`, as in
`GoldenCase`, and one more, the name of an output, which holds its values. `arithmetic` MAY be there: "exact"
or "saturating", how integer products were added where the values were computed.

`golden/cases.json` holds some of the cases for other languages, see docs/golden.md; nothing here reads it.
"""

import dataclasses
import json
from collections.abc import Iterable

from vit_edge import fields
from vit_edge.bundle import Bundle
from vit_edge.errors import BundleError
from vit_edge.spec import CLS_EMBEDDING, LOGITS, POOLED_EMBEDDING, Arithmetic

EXPECTED = "golden/expected.json"

OUTPUTS = (LOGITS, CLS_EMBEDDING, POOLED_EMBEDDING)  # patches are hundreds of times as many numbers

_MAX_BYTES = 64 * 2**20  # three images, ten models and 20,000 classes take a quarter of it


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
        BundleError: the file is malformed, or a case speaks of a file that the bundle does not list.
    """
    if EXPECTED not in bundle.manifest.files:
        return ()
    if bundle.manifest.files[EXPECTED].size > _MAX_BYTES:
        raise BundleError(f"{bundle.path / EXPECTED} is larger than {_MAX_BYTES} bytes")
    try:
        raw = fields.parse_json(bundle.read(EXPECTED), "the file")
        cases = tuple(_case(item) for item in fields.sequence(raw, "the file"))
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
    return cases


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
