"""Answers to test a device by: as images for the self-test, and as plain tensors for any language."""

import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.golden import EXPECTED, OUTPUTS, TENSORS, GoldenCase, golden_bytes
from vit_edge.host.convert.parity import EXPORT_TOLERANCE
from vit_edge.host.quantize.observe import EIGHT_BITS, EXACT_OPTIONS
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.selftest.answers import answers_of
from vit_edge.runtime.session.arithmetic import arithmetic_of
from vit_edge.runtime.session.session import Session, SessionSettings, feed_of
from vit_edge.spec import EMBEDDING, LOGITS, Arithmetic

GOLDEN_IMAGES = 3
_TENSOR_IMAGES = 2  # of them as tensors, too, which take four times as many bytes and do not compress
_MOST_TENSOR_BYTES = 16 * 2**20  # of the inputs of one form, one of which there always is; of an image's maps
_LEAST_INT8_TOLERANCE = 1e-2  # share of the largest logit
_CPU = SessionSettings("cpu")

Pixels = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]
Run = Callable[[ModelFile, Pixels, SessionSettings], Outputs]


@dataclasses.dataclass(frozen=True, eq=False)
class _Answers:
    """What one model gives, its integer products added in one way."""

    arithmetic: Arithmetic | None  # None: a float model
    outputs: Outputs  # of the images, one by one
    tolerance: Mapping[str, float]  # of each output


Answered = tuple[str, ModelFile, list[_Answers]]


def golden_files(families: Sequence[Mapping[str, ModelFile]], pixels: Pixels) -> dict[str, bytes]:
    """Images, and what each model gives for them here.

    A float model may differ elsewhere by float32 rounding. An INT8 model may differ by as much as it does
    from the float model: a device on which it is further off than that computes something else. Exact
    arithmetic is recorded of every INT8 model, saturating arithmetic where this CPU does it.

    Args:
        families: models by their paths in the bundle, those of one family with the same outputs; the first of
            each is the float one.
        pixels: uint8 (N, H, W, 3).
    """
    files = {f"golden/{index}.png": _png(image) for index, image in enumerate(pixels)}
    cases: list[GoldenCase] = []
    tensors: dict[str, bytes] = {}
    lines: list[str] = []
    for family in families:
        answered = list(_family_answers(family, pixels, _one_by_one))
        for name, _, found in answered:
            cases += [case for each in found for case in _cases(name, each, list(files))]
        for line, made in _tensors(answered, pixels[:_TENSOR_IMAGES]):
            lines.append(json.dumps(line, allow_nan=False))
            tensors |= made
    neutral = {TENSORS: _listing(lines), **tensors} if lines else {}
    return {**files, EXPECTED: golden_bytes(cases), **neutral}


def _tensors(
    answered: Sequence[Answered], pixels: Pixels
) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """The same as tensors for any language: of maps every number, where those are not too many."""
    if any(model.maps for _, model, _ in answered):
        family = {name: model for name, model, _ in answered}
        answered = list(_family_answers(family, pixels, _whole))
    for name, model, found in answered:
        if model.maps and sum(values[:1].nbytes for values in found[0].outputs.values()) > _MOST_TENSOR_BYTES:
            return
        for each in found:
            yield from _neutral(name, model, each, pixels, lone=len(found) == 1)


def _family_answers(family: Mapping[str, ModelFile], pixels: Pixels, run: Run) -> Iterator[Answered]:
    plain: Outputs | None = None
    for name, model in family.items():
        if plain is None:
            plain = run(model, pixels, _CPU)
            allowed = {each: EXPORT_TOLERANCE * _scale(plain, each) for each in _held_to(plain, model)}
            yield name, model, [_Answers(None, plain, allowed)]
        else:
            yield (
                name,
                model,
                [_held(kind, made, plain, model) for kind, made in _in_each(model, pixels, run)],
            )


def _held_to(made: Outputs, model: ModelFile) -> list[str]:
    """The outputs that a device is held to: of an embedder not those of every patch."""
    return [each for each in made if model.maps or each in OUTPUTS]


def _in_each(model: ModelFile, pixels: Pixels, run: Run) -> Iterator[tuple[Arithmetic, Outputs]]:
    """An INT8 model's answers in exact arithmetic, and in saturating arithmetic where this CPU does that."""
    exact = dataclasses.replace(_CPU, options=tuple(EXACT_OPTIONS.items()))
    saturates = arithmetic_of(_CPU, model) is Arithmetic.SATURATING
    yield Arithmetic.EXACT, run(model, pixels, exact if saturates else _CPU)
    if saturates:
        yield Arithmetic.SATURATING, run(model, pixels, _CPU)


def _held(arithmetic: Arithmetic, made: Outputs, plain: Outputs, model: ModelFile) -> _Answers:
    allowed = {
        each: max(_LEAST_INT8_TOLERANCE * _scale(made, each), float(np.abs(made[each] - plain[each]).max()))
        for each in _held_to(made, model)
    }
    return _Answers(arithmetic, made, allowed)


def _scale(made: Outputs, name: str) -> float:
    """What a tolerance is a share of; the numbers of an embedding of length 1 are all small."""
    largest = float(np.abs(made[name]).max())
    return largest if name == EMBEDDING else max(1.0, largest)


def _cases(model: str, answers: _Answers, images: Sequence[str]) -> Iterator[GoldenCase]:
    for output, allowed in answers.tolerance.items():
        for image, row in zip(images, answers.outputs[output], strict=True):
            yield GoldenCase(image, model, tuple(map(float, row)), allowed, output, answers.arithmetic)


def _neutral(
    name: str, model: ModelFile, answers: _Answers, pixels: Pixels, *, lone: bool
) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """Entries of `golden/cases.json` as docs/golden.md describes them, and the tensors that each names.

    Args:
        name: the model's path in the bundle.
        model: that model.
        answers: of it.
        pixels: uint8 (N, H, W, 3).
        lone: whether these are the model's only answers, so that every device is held to them.
    """
    arithmetic = "any" if lone or answers.arithmetic is None else answers.arithmetic.value
    for index, image in enumerate(pixels):
        [(entry, given)] = feed_of(model, image[None], model.preprocess).items()
        if index and (index + 1) * given.nbytes > _MOST_TENSOR_BYTES:
            return
        input_file = f"golden/{model.form.value}.{index}.bin"
        for place, (output, allowed) in enumerate(answers.tolerance.items()):
            values = answers.outputs[output][index : index + 1]
            called = f"map{place}" if model.maps else output
            output_file = f"golden/{Path(name).stem}.{called}.{arithmetic}.{index}.bin"
            line = {
                "model": name,
                "arithmetic": arithmetic,
                "input": entry,
                "input_type": given.dtype.name,
                "input_shape": list(given.shape),
                "input_file": input_file,
                "output": model.scores if output in (LOGITS, EMBEDDING) and not model.maps else output,
                "output_type": "float32",
                "output_shape": list(values.shape),
                "output_file": output_file,
                "tolerance": allowed,
                "session_options": _options(model),
            }
            yield line, {input_file: _little(given), output_file: _little(values)}


def _options(model: ModelFile) -> dict[str, str]:
    """Those of the file; exact products take unsigned operands on every x86 CPU."""
    options = dict(model.session_options)
    return options | EXACT_OPTIONS if options.items() >= EIGHT_BITS.items() else options


def _listing(lines: Sequence[str]) -> bytes:
    """Every case on a line of its own, so that a reader without a JSON parser can find it."""
    head = '{"format": "vit-edge golden cases", "version": 1, "byte_order": "little", "cases": [\n'
    return (head + ",\n".join(lines) + "\n]}\n").encode()


def _little(values: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _one_by_one(model: ModelFile, pixels: Pixels, settings: SessionSettings) -> Outputs:
    """Every output of every image, run alone as the self-test does it.

    Within a batch, float32 roundings differ in the last bit, which an INT8 model may turn into another step.
    """
    session = Session(model, settings)
    made = [answers_of(session, image[None]) for image in pixels]
    return {name: np.concatenate([each[name] for each in made]) for name in made[0]}


def _whole(model: ModelFile, pixels: Pixels, settings: SessionSettings) -> Outputs:
    """The same, of maps every number of every output."""
    if not model.maps:
        return _one_by_one(model, pixels, settings)
    session = Session(model, settings)
    made = [session.outputs(image[None]) for image in pixels]
    return {name: np.concatenate([each[name] for each in made]) for name in made[0]}


def _png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
