"""Somebody's ONNX file, with labels and preprocessing from its own metadata or from options."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

from vit_edge.errors import ModelError, SourceError
from vit_edge.host.convert.answers import Answers, answers_of, check_answers, gives_boxes
from vit_edge.host.convert.normal import (
    ImageInput,
    image_input,
    normal_form,
    normalisation_inside,
    takes_raw_pixels,
)
from vit_edge.host.convert.onnx_io import properties, read_hashed
from vit_edge.host.convert.unit_length import ends_in_unit_length
from vit_edge.host.ort import runner
from vit_edge.host.sources.labels import choose_labels, label_maps
from vit_edge.host.sources.meaning import PROBLEMS
from vit_edge.host.sources.preprocessing import rule_notes, size_notes, to_processor, with_options
from vit_edge.host.sources.types import Library, OwnPipeline, Source, SourceKind, SourceOptions
from vit_edge.runtime.model.metadata import (
    PREPROCESS_KEY,
    labels_of,
    merged_tokens_of,
    output_of,
    preprocess_of,
)
from vit_edge.spec import PATCH_FEATURES, OutputKind, PreprocessSpec

T = TypeVar("T")
_UNIT = (
    "it ends in a division by its own length, so it gives embeddings of length 1: pass --output-kind if not"
)


@dataclasses.dataclass(frozen=True)
class Beside:
    """What a folder says about the ONNX file in it."""

    name: str
    labels: tuple[str, ...] | None = None
    preprocess: PreprocessSpec | None = None
    size: tuple[int, int] | None = None  # pixels (height, width), where the file leaves them open
    decided: tuple[str, ...] = ()
    preprocessor_config: dict[str, Any] | None = None
    problem_type: object = None  # of config.json
    folder: Path | None = None  # with an image processor


def from_onnx(file: Path, options: SourceOptions, beside: Beside | None = None) -> Source:
    """Read the interface of an ONNX image classifier; its graph is left to the loader that uses it.

    Args:
        file: with external data, if any, in files beside it.
        options: what the user states.
        beside: what is said elsewhere; the file's own metadata wins over it.

    Raises:
        SourceError: not an ONNX file, an interface that is no image classifier's, a quantized model, or
            nothing that states the preprocessing.
    """
    beside = beside or Beside(file.stem)
    try:
        model, digest = read_hashed(file)
        metadata = properties(model)
        _refuse_made(model, metadata, file)
        stated_labels = _own(file, labels_of, metadata) or beside.labels
        known = None if stated_labels is None else len(stated_labels)
        own = _own(file, output_of, metadata)
        said = options.output_kind or own or PROBLEMS.get(str(beside.problem_type))
        unit = said is None and stated_labels is None and ends_in_unit_length(model, options.output)
        said = OutputKind.UNIT_EMBEDDING if unit else said
        answers = answers_of(model, str(file), options.output, said, known)
        outputs = [value.name for value in model.graph.output]
        model = answers.model
        stated = _own(file, preprocess_of, metadata) or beside.preprocess
        size = _image_size(model, stated, beside, options, file)
        normal = normal_form(model, str(file), size)
        options, decided = _with_inside(normal, image_input(model, str(file)), stated, options, str(file))
    except ModelError as error:
        raise SourceError(str(error)) from error
    preprocess = with_options(stated, options, size, str(file))
    try:
        check_answers(answers, normal, preprocess, said is not None, str(file))
    except ModelError as error:
        raise SourceError(str(error)) from error
    known = len(stated_labels) if stated_labels else None
    classes = _classes(normal, known, file, maps=answers.kind is OutputKind.MAP)
    labels, note = choose_labels(options.labels, stated_labels, classes, str(file))
    processor = None if options.changes_preprocessing else beside.preprocessor_config
    return Source(
        name=beside.name,
        kind=SourceKind.ONNX,
        module=None,
        onnx_path=file,
        config=None,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=digest,
        huggingface_config={
            "model_type": "vit",
            "image_size": list(size),
            **label_maps(labels),
            **({} if beside.problem_type is None else {"problem_type": beside.problem_type}),
        },
        preprocessor_config=processor or to_processor(preprocess),
        decided=(
            *beside.decided,
            *decided,
            *_answer_notes(answers, outputs, said, options),
            *((_UNIT,) if unit else ()),
            *(rule_notes(preprocess, options) if stated is None else size_notes(stated, preprocess, options)),
        ),
        output=answers.kind,
        output_name=answers.output,
        own_pipeline=None
        if beside.folder is None or PREPROCESS_KEY in metadata
        else OwnPipeline(
            Library.ONNXRUNTIME,
            beside.folder,
            stated=options.stated,
            states_kind=options.output_kind is not None,
            names_classes=False,
        ),
        values=classes,
    )


def _answer_notes(
    answers: Answers, outputs: list[str], said: OutputKind | None, options: SourceOptions
) -> tuple[str, ...]:
    """What the graph alone told of its answers."""
    notes = []
    if answers.kind is OutputKind.MAP:
        others = [name for name in outputs if name != answers.output]
        kept = f", and {', '.join(others)} kept beside it" if others else ""
        if gives_boxes(answers.model):
            return (f"it gives boxes: {answers.output} of them are read as (N, boxes, classes and nothing)",)
        return (f"it gives maps: {answers.output} is the first{kept}, read as (N, channels, rows, columns)",)
    if len(outputs) > 1 and options.output is None:
        names = ", ".join(outputs[:4]) + (", ..." if len(outputs) > 4 else "")
        notes.append(f"of its outputs ({names}) {answers.output} holds the answers: pass --output if not")
    if answers.stripped is not None and said is None:
        notes.append(
            f"it ends in a {answers.stripped}, which is taken off, so its numbers are read as "
            f"{answers.kind.value}: pass --output-kind if not"
        )
    return tuple(notes)


def _refuse_made(model: onnx.ModelProto, metadata: Mapping[str, str], file: Path) -> None:
    """Refuse what is no classifier any more, or no plain one."""
    if _own(file, merged_tokens_of, dict(metadata)):
        raise SourceError(f"{file} merges tokens already: pass the classifier that it was made from")
    if PATCH_FEATURES in {output.name for output in model.graph.output}:
        raise SourceError(f"{file} is an embedder: pass the classifier that it was made from")


def _image_size(
    model: onnx.ModelProto, stated: PreprocessSpec | None, beside: Beside, options: SourceOptions, file: Path
) -> tuple[int, int]:
    """Pixels (height, width): the file's own, or where it leaves them open what is stated elsewhere."""
    image = image_input(model, str(file))
    known = image.fixed or options.image_size or beside.size
    if known is None and stated is not None:
        known = stated.height, stated.width
    if known is None:
        raise SourceError(
            f"{file} leaves height and width of its images open: say with --image-size what it was trained at"
        )
    if options.image_size is not None and options.image_size != known:
        raise SourceError(
            f"{file} is fixed to {known[0]}x{known[1]} pixels: export it again at the size you want"
        )
    return known


def _with_inside(
    model: onnx.ModelProto,
    written: ImageInput,
    stated: PreprocessSpec | None,
    options: SourceOptions,
    where: str,
) -> tuple[SourceOptions, tuple[str, ...]]:
    """The options with the pixels that a graph with its own normalisation takes, and a note on them."""
    if stated is not None:
        return options, ()
    inside = normalisation_inside(model, where)
    raw = written.kind == onnx.TensorProto.UINT8 or (inside is not None and takes_raw_pixels(inside))
    if inside is None and not raw:
        return options, ()
    if inside is not None and not raw and takes_raw_pixels(inside) is None:
        if options.mean is None or options.std is None:
            raise SourceError(
                f"{where} scales its pixels by {np.abs(inside.scale).mean():.3g} itself, which tells neither "
                "0 to 255 nor 0 to 1 as their range: state with --mean and --std what it takes"
            )
        return options, ()
    mean, std = (0.0, 0.0, 0.0), (1 / 255,) * 3 if raw else (1.0,) * 3
    takes = "0 to 255" if raw else "0 to 1"
    asked = (options.mean or mean, options.std or std)
    if not np.allclose(asked, (mean, std), rtol=1e-3):
        raise SourceError(
            f"{where} takes pixels of {takes} and normalises them itself: leave --mean and --std out"
        )
    note = f"the graph takes pixels of {takes} and normalises them itself, so nothing else does"
    return dataclasses.replace(options, mean=mean, std=(std[0], std[1], std[2])), (note,)


def _channels(model: onnx.ModelProto, file: Path) -> int:
    """Channels of the first map, or classes of boxes, by declared shape or by running it once."""
    output = model.graph.output[0]
    nothing = 1 if gives_boxes(model) else 0  # the last class of a detection head stands for nothing
    dims = output.type.tensor_type.shape.dim
    if len(dims) == 4 and dims[1].HasField("dim_value"):
        return int(dims[1].dim_value)
    size = image_input(model, str(file)).fixed or (0, 0)
    try:
        made = runner(model, str(file))(np.zeros((1, 3, *size), np.float32))
    except ModelError as error:
        raise SourceError(str(error)) from error
    return int(made.shape[1] if made.ndim == 4 else made.shape[-1]) - nothing


def _classes(model: onnx.ModelProto, stated: int | None, file: Path, *, maps: bool) -> int:
    value = model.graph.output[0]
    shape = value.type.tensor_type.shape
    if maps:
        return _channels(model, file)
    dimensions = [dim.dim_value if dim.HasField("dim_value") else None for dim in shape.dim]
    if len(dimensions) != 2:
        raise SourceError(
            f"{file}: output {value.name} {dimensions} is not (N, classes) logits: pass a classifier"
        )
    if dimensions[1] is not None:
        return int(dimensions[1])
    if stated is not None:
        return stated
    size = image_input(model, str(file)).fixed or (0, 0)
    try:
        made = runner(model, str(file))(np.zeros((1, 3, *size), np.float32))
    except ModelError as error:
        raise SourceError(str(error)) from error
    return int(made.shape[1])


def _own(file: Path, read: Callable[[dict[str, str]], T], metadata: dict[str, str]) -> T:
    """What the file says of itself."""
    try:
        return read(metadata)
    except ValueError as error:
        raise SourceError(f"{file} {error}") from None
