"""Reading a model file: one read, hashed, checked, and refused before onnxruntime sees it.

The contract of a model file: self-contained ONNX (no external data, no operator domain that stock
onnxruntime lacks); one input, `pixel_values` float32 (N, 3, H, W) or `pixels` uint8 (N, H, W, 3). A
classifier has an output `logits` float32 (N, C). An embedder has `pooled_embedding` float32 (N, D) and
`patch_features` float32 (N, rows, columns, D) instead and, where a class token stands for the whole image,
`cls_embedding` float32 (N, D). Labels, preprocessing and session options travel in its metadata_props, as
JSON under the keys below.
"""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from vit_edge import fields
from vit_edge.bundle import EMBEDDER_ROLES, MODEL_ROLES, Role, is_bundle, read_bundle
from vit_edge.errors import BundleError, ModelError
from vit_edge.runtime.model.header import FLOAT, UINT8, OnnxHeader, TensorInfo, read_header
from vit_edge.spec import (
    CLS_EMBEDDING,
    LOGITS,
    PATCH_FEATURES,
    POOLED_EMBEDDING,
    InputForm,
    PreprocessSpec,
    session_options,
)

LABELS_KEY = "vit_edge.labels"  # JSON list of strings, one per class
PREPROCESS_KEY = "vit_edge.preprocess"  # JSON, PreprocessSpec.to_json()
SESSION_OPTIONS_KEY = "vit_edge.session_options"  # JSON object of spec.SESSION_OPTIONS entries

T = TypeVar("T")

OPERATOR_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})

_MAX_BYTES = 2**31 - 1  # protobuf's own limit
_MAX_BATCH = 1024
_MAX_SIDE = 4096  # pixels
_MAX_CLASSES = 1_000_000
_MAX_DIM = 65_536


@dataclasses.dataclass(frozen=True)
class Features:
    """What an embedder gives for one image."""

    dim: int  # D, the length of every embedding
    grid: tuple[int, int]  # patches (rows, columns)
    has_cls: bool  # whether cls_embedding is among the outputs


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A model that may be loaded: its bytes and what they say about themselves."""

    path: Path
    data: bytes = dataclasses.field(repr=False)
    sha256: str
    labels: tuple[str, ...] | None = dataclasses.field(repr=False)
    preprocess: PreprocessSpec | None
    session_options: tuple[tuple[str, str], ...]
    metadata: Mapping[str, str] = dataclasses.field(repr=False)  # all metadata_props
    form: InputForm
    batch: int | None  # None: any
    size: tuple[int, int] | None  # pixels (height, width); None where the file leaves it open
    classes: int | None  # None where the file leaves it open, and of an embedder
    features: Features | None = None  # of an embedder; None of a classifier

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Pixels (height, width) by the input or else by the preprocessing; None where neither tells."""
        spec = self.preprocess
        return self.size or (None if spec is None else (spec.height, spec.width))

    @property
    def outputs(self) -> dict[str, tuple[int | None, ...]]:
        """Name of each output that the contract knows -> its shape for one image, None where left open."""
        if self.features is None:
            return {LOGITS: (self.classes,)}
        dim, grid = self.features.dim, self.features.grid
        vectors = [CLS_EMBEDDING, POOLED_EMBEDDING] if self.features.has_cls else [POOLED_EMBEDDING]
        return {**dict.fromkeys(vectors, (dim,)), PATCH_FEATURES: (*grid, dim)}


def read_model(path: str | os.PathLike[str], role: Role | str | None = None) -> ModelFile:
    """Read an ONNX file or a model of a bundle.

    Args:
        path: an ONNX file, or a bundle folder; of the latter, only bytes with the recorded SHA-256 are used.
        role: for a bundle, which model: a role, or a path inside it; by default the manifest's default_model.

    Raises:
        ModelError: the file is missing, empty, too large, not ONNX, not self-contained, or not as above.
        BundleError: the bundle is malformed or has not exactly one model of that role.
        IntegrityError: the file is not the one that the bundle's manifest records.
    """
    location = Path(path)
    if location.is_dir():
        return _read_from_bundle(location, role)
    if role is not None:
        raise ModelError(f"{location} is no bundle folder, so a role ({role}) cannot be chosen from it")
    return _model_file(location, _read_file(location), None)


def _read_from_bundle(folder: Path, role: Role | str | None) -> ModelFile:
    if not is_bundle(folder):
        raise ModelError(f"{folder} is a folder without vit_edge.json; give an ONNX file or a bundle")
    bundle = read_bundle(folder)
    wanted = next((each for each in MODEL_ROLES + EMBEDDER_ROLES if role in (each, each.value)), None)
    if wanted is None:
        name = bundle.manifest.default_model if role is None else str(role)
    else:
        names = bundle.with_role(wanted)
        if len(names) != 1:
            raise BundleError(
                f"{folder} has {len(names)} models of role {wanted.value}; "
                f"name one of {bundle.models() + bundle.embedders()}"
            )
        name = names[0]
    data = bundle.read(name)
    models = bundle.models() + bundle.embedders()
    if name not in models:
        raise BundleError(f"{folder / name} is no model; models are {models}")
    return _model_file(folder / name, data, bundle.manifest.preprocess)


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is no file; give an ONNX file or a bundle folder")
        if status.st_size > _MAX_BYTES:
            raise ModelError(f"{path} is larger than 2 GiB, which ONNX cannot hold in one file")
        with path.open("rb") as file:
            data = file.read(status.st_size)  # Python sets aside as much memory as it is asked to read
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; give an ONNX file or a bundle folder") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error
    if not data:
        raise ModelError(f"{path} is empty; export the model again")
    return data


def _model_file(path: Path, data: bytes, preprocess: PreprocessSpec | None) -> ModelFile:
    try:
        header = read_header(data)
    except ValueError as error:
        raise ModelError(f"{path} is no ONNX model: {error}") from None
    try:
        _check_self_contained(header)
        form, batch, size = _check_input(header)
        classes, features = _check_outputs(header)
        model = ModelFile(
            path=path,
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            labels=_from_metadata(header, LABELS_KEY, _labels),
            preprocess=_from_metadata(header, PREPROCESS_KEY, PreprocessSpec.from_json) or preprocess,
            session_options=_from_metadata(header, SESSION_OPTIONS_KEY, session_options) or (),
            metadata=header.metadata,
            form=form,
            batch=batch,
            size=size,
            classes=classes,
            features=features,
        )
        _check_agreement(model)
    except ValueError as error:
        raise ModelError(f"{path} {error}") from None
    return model


def _check_self_contained(header: OnnxHeader) -> None:
    if header.external_data:
        raise ValueError("keeps weights in another file (external data); save it as one file")
    if any(operator == "EPContext" for _, operator in header.foreign_operators):
        raise ValueError(
            "holds a part that is compiled for one device (EPContext), which cannot be checked; "
            "use the portable model, it is compiled where it runs"
        )
    foreign = sorted(
        f"{domain}::{op}" for domain, op in header.foreign_operators if domain not in OPERATOR_DOMAINS
    )
    if foreign:
        raise ValueError(
            f"uses operators that onnxruntime does not ship ({', '.join(foreign[:3])}); export without them"
        )


def _check_input(header: OnnxHeader) -> tuple[InputForm, int | None, tuple[int, int] | None]:
    names = [info.name for info in header.inputs]
    forms = [form for form in InputForm if [form.value] == names]
    if not forms:
        raise ValueError(f"has the inputs {names[:8]}; it must have one, named pixel_values or pixels")
    form, info = forms[0], header.inputs[0]
    if form is InputForm.PIXEL_VALUES:
        _check_tensor(info, FLOAT, "float32 (N, 3, height, width)", 4)
        batch, channels, height, width = info.dims or ()
    else:
        _check_tensor(info, UINT8, "uint8 (N, height, width, 3)", 4)
        batch, height, width, channels = info.dims or ()
    if channels not in (3, None):
        raise ValueError(f"takes images of {channels} channels; it must take 3 (RGB)")
    _check_range(batch, _MAX_BATCH, "batch size")
    _check_range(height, _MAX_SIDE, "image height")
    _check_range(width, _MAX_SIDE, "image width")
    return form, batch, None if height is None or width is None else (height, width)


def _check_outputs(header: OnnxHeader) -> tuple[int | None, Features | None]:
    """(number of classes, None) of a classifier, (None, features) of an embedder."""
    names = [info.name for info in header.outputs]
    outputs = {info.name: info for info in header.outputs}
    if len(outputs) != len(names):
        raise ValueError(f"has two outputs of one name among {names[:8]}; export it again")
    if LOGITS in outputs:
        return _check_logits(outputs[LOGITS]), None
    if POOLED_EMBEDDING in outputs and PATCH_FEATURES in outputs:
        return None, _check_features(outputs)
    raise ValueError(
        f"has the outputs {names[:8]}; one must be named {LOGITS}, or of an embedder two must be named "
        f"{POOLED_EMBEDDING} and {PATCH_FEATURES}"
    )


def _check_logits(info: TensorInfo) -> int | None:
    _check_tensor(info, FLOAT, "float32 (N, classes)", 2)
    batch, classes = info.dims or ()
    _check_range(batch, _MAX_BATCH, "batch size of logits")
    _check_range(classes, _MAX_CLASSES, "number of classes")
    return classes


def _check_features(outputs: Mapping[str, TensorInfo]) -> Features:
    grid_info = outputs[PATCH_FEATURES]
    _check_tensor(grid_info, FLOAT, "float32 (N, rows, columns, dim)", 4)
    batch, rows, columns, dim = grid_info.dims or ()
    if rows is None or columns is None or dim is None:
        raise ValueError(f"leaves the shape of {PATCH_FEATURES} open; export it with a fixed image size")
    _check_range(batch, _MAX_BATCH, f"batch size of {PATCH_FEATURES}")
    for count, what in ((rows, "patch rows"), (columns, "patch columns")):
        _check_range(count, _MAX_SIDE, f"number of {what}")
    _check_range(dim, _MAX_DIM, "embedding dimension")
    for name in (CLS_EMBEDDING, POOLED_EMBEDDING):
        if name in outputs:
            _check_tensor(outputs[name], FLOAT, f"float32 (N, {dim})", 2)
            if (outputs[name].dims or ())[1] != dim:
                raise ValueError(
                    f"has {name} of another dimension than {PATCH_FEATURES} ({dim}); export it again"
                )
    return Features(dim, (rows, columns), CLS_EMBEDDING in outputs)


def _check_tensor(info: TensorInfo, elem_type: int, expected: str, rank: int) -> None:
    if info.elem_type != elem_type or info.dims is None or len(info.dims) != rank:
        shape = "unknown" if info.dims is None else list(info.dims)
        raise ValueError(
            f"has {info.name} of ONNX type {info.elem_type} and shape {shape}; it must be {expected}"
        )


def _check_range(value: int | None, most: int, what: str) -> None:
    if value is not None and not 1 <= value <= most:
        raise ValueError(f"has {what} {value}; it must be from 1 to {most}")


def _check_agreement(model: ModelFile) -> None:
    if model.labels is not None and model.classes is not None and len(model.labels) != model.classes:
        raise ValueError(f"has {len(model.labels)} labels for {model.classes} classes; export it again")
    spec = model.preprocess
    if spec is not None and model.size is not None and model.size != (spec.height, spec.width):
        raise ValueError(
            f"takes {model.size} pixels but is preprocessed to {(spec.height, spec.width)}; export it again"
        )


def _from_metadata(header: OnnxHeader, key: str, read: Callable[[object], T]) -> T | None:
    """The value of one metadata key, None where the file has none."""
    if key not in header.metadata:
        return None
    try:
        return read(fields.parse_json(header.metadata[key], "the text"))
    except ValueError as error:
        raise ValueError(f"has unusable {key} metadata ({error}); export it again") from None


def _labels(raw: object) -> tuple[str, ...]:
    labels = fields.strings(raw, "labels")
    if not labels:
        raise ValueError("labels must not be empty")
    return labels
