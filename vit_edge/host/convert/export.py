"""From a resolved source to one ONNX file, with parity to torch checked every time."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from torch import nn

from vit_edge.errors import ModelError, SourceError, UsageError
from vit_edge.host.convert.answers import answers_of
from vit_edge.host.convert.normal import has_halves, image_input, is_normal, normal_form
from vit_edge.host.convert.onnx_io import messages, read_onnx
from vit_edge.host.convert.parity import (
    EXPORT_TOLERANCE,
    HALF_TOLERANCE,
    RANDOM_IMAGES,
    check_parity,
    random_images,
)
from vit_edge.host.lower.versions import proto_at
from vit_edge.host.ort import Floats, Images, Run, runner
from vit_edge.host.rewrite.prepare import OPSET
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.spec import AS_WRITTEN, LOGITS, WRITTEN, InputForm, OutputKind, VersionsWanted, check_batch

INPUT = InputForm.PIXEL_VALUES.value

_EXAMPLE_BATCH = 2  # torch.export specialises a dimension of 1, so a dynamic batch needs an example above it


def export(
    source: Source, batch: int | None = None, versions: VersionsWanted = AS_WRITTEN
) -> tuple[onnx.ModelProto, Parity | None]:
    """The ONNX form of a source: `pixel_values` float32 (N, 3, H, W) to `logits` float32 (N, C).

    An embedding model gives `embedding` float32 (N, D) instead.

    A torch module is exported and compared with torch on random images; an ONNX source is read as
    it is, only its input and output get these names and this form. Where that changes more than names, it is
    compared with the file.

    Args:
        source: from `resolve`.
        batch: a fixed batch size, or None for a dynamic one; an ONNX source has its own.
        versions: of the file; by default those that graphs are written at. An ONNX source has its own.

    Returns:
        The model, and how far it lies from torch, or from the ONNX file (None where that is as it was).

    Raises:
        UsageError: a batch or versions for an ONNX source, or a batch below 1.
        SourceError: torch cannot export the module.
        ModelError: an ONNX source that cannot be read.
        ParityError: the export differs from torch.
    """
    check_batch(batch)
    if source.module is None:
        if batch is not None:
            raise UsageError(
                f"{source.name} is an ONNX file with a batch size of its own: leave --batch out, "
                "or set it with optimize"
            )
        if versions:
            raise UsageError(
                f"{source.name} is an ONNX file with an opset of its own: leave --opset and --ir out, "
                "or set them with optimize"
            )
        return _read(source)
    size = source.preprocess.height, source.preprocess.width
    made = _exported(source.module, size, batch, source.name)
    if source.output.output_name != LOGITS:
        made = named(made, source.output.output_name)  # which torch may have given to a value inside
    model = proto_at(made, versions.over(WRITTEN), source.name)
    images = random_images(*size)
    parity = check_parity(
        torch_runner(source.module), runner(model, source.name), images, EXPORT_TOLERANCE, _step(source)
    )
    return model, parity


def _read(source: Source) -> tuple[onnx.ModelProto, Parity | None]:
    """The answers of an ONNX source in normal form."""
    size = source.preprocess.height, source.preprocess.width
    read = read_onnx(str(source.onnx_path))
    original = answers_of(read, source.name, source.output_name, source.output).model
    model, changed = normal_form(original, source.name, size), not is_normal(original, source.name)
    answers = None if source.output is OutputKind.MAP else source.output.output_name
    return named(model, answers), _parity_to_file(original, model, source) if changed else None


def _parity_to_file(original: onnx.ModelProto, model: onnx.ModelProto, source: Source) -> Parity | None:
    """How far the normal form lies from the file; None where onnxruntime cannot run the file's numbers."""
    size, name = (source.preprocess.height, source.preprocess.width), source.name
    image = image_input(original, name)
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(image.kind))
    axes = (0, 2, 3, 1) if image.channels_last else (0, 1, 2, 3)
    try:
        reference = runner(original, name)
    except ModelError:
        if image.kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8) and not has_halves(original):
            raise
        return None
    images = random_images(*size) if kind.kind != "u" else _random_bytes(*size)
    return check_parity(
        lambda some: reference(np.ascontiguousarray(some.astype(kind).transpose(axes))),
        runner(model, name),
        images.astype(kind).astype(np.float32),
        HALF_TOLERANCE if has_halves(original) else EXPORT_TOLERANCE,
        f"{name} brought to pixel_values differs from the file",
    )


def _random_bytes(height: int, width: int) -> Images:
    return random_pixels(RANDOM_IMAGES, (height, width)).transpose(0, 3, 1, 2)


def torch_runner(module: nn.Module) -> Run:
    """Run a torch module on numpy images."""

    def run(images: Images) -> Floats:
        with torch.inference_mode():
            logits: Floats = module(torch.from_numpy(images)).numpy()
        return np.asarray(logits, np.float32)

    return run


def _step(source: Source) -> str:
    return f"the export of {source.name} differs from torch"


def _exported(module: nn.Module, size: tuple[int, int], batch: int | None, name: str) -> onnx.ModelProto:
    example = torch.zeros(batch or _EXAMPLE_BATCH, 3, *size)
    shapes = None if batch is not None else ({0: torch.export.Dim("batch")},)
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=[LOGITS],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the module's code leads to
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise SourceError(f"torch cannot export {name}: {line}") from error
    if program is None:
        raise SourceError(f"torch gave no ONNX program for {name}: check its forward method")
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's log, warnings and printing to itself; they speak of its own inner workings."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def named(model: onnx.ModelProto, answers: str | None) -> onnx.ModelProto:
    """Give the image input and the first output the names that our tools expect, in place.

    Args:
        model: a graph with one image input.
        answers: of the output; None: outputs keep their names, as those of maps do.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value.name for value in model.graph.input if value.name not in weights)
    new_names = {image: INPUT} if answers is None else {image: INPUT, model.graph.output[0].name: answers}
    return renamed(model, new_names)


def renamed(model: onnx.ModelProto, new_names: dict[str, str]) -> onnx.ModelProto:
    """Rename values of a graph, in place; one inside that bears a new name already gives it up.

    Args:
        model: any.
        new_names: by the names that they have.
    """
    new_names = dict(new_names)
    weights = {tensor.name for tensor in model.graph.initializer}
    inside = list(messages(model.graph))
    taken = {
        name for node in inside if isinstance(node, onnx.NodeProto) for name in (*node.input, *node.output)
    }
    for old, new in list(new_names.items()):
        if old != new and new in taken | weights:
            new_names[new] = f"{new}.renamed"  # something inside bears the name
    for message in inside:
        if isinstance(message, onnx.ValueInfoProto | onnx.TensorProto):
            message.name = new_names.get(message.name, message.name)
        elif isinstance(message, onnx.NodeProto):
            for names in (message.input, message.output):
                names[:] = [new_names.get(name, name) for name in names]
    return model
