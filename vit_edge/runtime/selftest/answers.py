"""Does each model answer as it did where the bundle was built, in the arithmetic of this device?"""

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime

from vit_edge.bundle import Bundle, Role
from vit_edge.errors import BundleError, KernelsError, VitEdgeError
from vit_edge.golden import MAP, GoldenCase, held_to, spread
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.selftest.check import Check
from vit_edge.runtime.session.arithmetic import arithmetic_of
from vit_edge.runtime.session.providers import short_name
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import Arithmetic

_ADDED = {
    Arithmetic.EXACT: "exact: every product is added in 32 bits",
    Arithmetic.SATURATING: "saturating: pairs of uint8 x int8 products are added in 16 bits and may overflow",
}


def check_integers(provider: str) -> tuple[Check, Arithmetic | None]:
    """How this device adds integer products, which its answers are held to."""
    title = "integer products"
    try:
        found = arithmetic_of(SessionSettings(provider))
    except VitEdgeError as error:
        return Check(title, None, f"could not be tried: {error}"), None
    if found is not None:
        return Check(title, True, _ADDED[found]), found
    mend = "use another provider or another onnxruntime, or a float model of the bundle"
    return Check(title, False, "they are neither exact nor saturating, but wrong", mend), None


def check_answers(bundle: Bundle, name: str, cases: Sequence[GoldenCase], provider: str) -> Check:
    """One model's answers to the golden inputs, or that it runs at all where none are recorded."""
    title = f"answers of {name}"
    settings = SessionSettings(provider)
    try:
        model = read_model(bundle.path, name)
        session = Session(model, settings)
        if not cases:
            spec = bundle.manifest.preprocess
            session.outputs(np.zeros((1, spec.height, spec.width, 3), np.uint8))
            return Check(title, None, "it runs; the bundle records no answers of it to compare with")
        integer = bundle.manifest.files[name].role not in (Role.FLOAT, Role.EMBEDDER_FLOAT)
        mine = arithmetic_of(settings, model) if integer else None
        held, recorded = held_to(cases, mine)
        worst = max(_distances(bundle, held, session), key=lambda each: each[2])
    except KernelsError as error:
        return Check(title, None, f"not run here: {error}")
    except VitEdgeError as error:
        return Check(title, False, str(error), "use another model of the bundle, or another provider")
    difference, allowed, _ = worst
    images = len({case.image for case in held})
    outputs = ", ".join(dict.fromkeys(case.output for case in held))
    found = f"{images} images, {outputs} off by at most {difference:.2g} of {allowed:.2g} allowed"
    found += _in(recorded, mine)
    if difference <= allowed:
        return Check(title, True, found)
    return Check(title, False, found, _numeric_mend(mine, session))


def _in(recorded: Arithmetic | None, mine: Arithmetic | None) -> str:
    """Which arithmetic the answers that were held to are of."""
    if recorded is None:
        return ""
    if recorded is mine:
        return f" in {recorded.value} arithmetic"
    here = "unknown" if mine is None else mine.value
    return f" in {recorded.value} arithmetic, the only one recorded; this device's is {here}"


def _distances(
    bundle: Bundle, cases: Sequence[GoldenCase], session: Session
) -> Iterator[tuple[float, float, float]]:
    """For each case what `_distance` gives; the model runs once per image."""
    by_image = operator.attrgetter("image")
    spec = bundle.manifest.preprocess
    limits = DecodeLimits(max_pixels=spec.height * spec.width, formats=(ImageFormat.PNG,))
    for image, group in itertools.groupby(sorted(cases, key=by_image), by_image):
        made = answers_of(session, np.asarray(decode(bundle.read(image), limits))[None])
        yield from (_distance(case, made) for case in group)


def answers_of(session: Session, pixels: npt.NDArray[np.uint8]) -> Mapping[str, npt.NDArray[np.float32]]:
    """What a model gives for one image, by the names of golden cases; of maps what `golden.spread` keeps.

    Args:
        session: the model.
        pixels: uint8 (1, H, W, 3).
    """
    made = session.outputs(pixels)
    maps = session.model.maps
    return {MAP: spread(made[maps[0].name][0])[None]} if maps else made


def _distance(case: GoldenCase, made: Mapping[str, npt.NDArray[np.float32]]) -> tuple[float, float, float]:
    """(largest difference of a value, what is allowed, how much it is beyond that)."""
    if case.output not in made:
        raise BundleError(f"{case.model} gives no {case.output}, of which values are recorded")
    values = made[case.output][0]
    if len(values) != len(case.values):
        raise BundleError(
            f"{case.model} gives {len(values)} {case.output} where {len(case.values)} are recorded"
        )
    difference = float(np.abs(values - np.asarray(case.values)).max())
    return difference, case.tolerance, difference - case.tolerance


def _numeric_mend(arithmetic: Arithmetic | None, session: Session) -> str:
    if arithmetic is Arithmetic.SATURATING:
        return (
            "the integer products of this device saturate: use a model of the bundle that passes, "
            "or build the bundle again, whose portable file allows for that"
        )
    ran = short_name(session.placement.provider)
    return (
        f"{ran} of onnxruntime {onnxruntime.__version__} computes something else than where the bundle was "
        "built: use a model of the bundle that passes, another provider or another onnxruntime"
    )
