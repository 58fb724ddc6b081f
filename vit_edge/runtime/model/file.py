"""Reading a model file: one read, hashed, checked, and refused before onnxruntime sees it.

The contract of a model file: self-contained ONNX (no external data, no operator domain that stock
onnxruntime lacks); one input, `pixel_values` float32 (N, 3, H, W) or `pixels` uint8 (N, H, W, 3). A
classifier has an output `logits` float32 (N, C); those of other makers may have other names and layouts, see
`interface`, and end in a Softmax or Sigmoid, see `outputs`. An embedder has `pooled_embedding` float32 (N, D)
and `patch_features` float32 (N, rows, columns, D) instead and, where a class token stands for all of the
image, `cls_embedding` float32 (N, D). An embedding model has the output `embedding` float32 (N, D) alone. A
model of maps has one or more outputs under names of its own, usually
(N, channels, rows, columns). Labels, preprocessing, session options and what the numbers mean travel in its
metadata_props, see `metadata`.
"""

import dataclasses
import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vit_edge.bundle import Bundle, Role, is_bundle, read_steadily
from vit_edge.errors import KernelsError, ModelError
from vit_edge.files import read_file, recover
from vit_edge.runtime.model.accepted import check_self_contained
from vit_edge.runtime.model.choice import chosen_name
from vit_edge.runtime.model.header import read_header
from vit_edge.runtime.model.interface import ImageInput, image_input
from vit_edge.runtime.model.maps import Map, what_is_given
from vit_edge.runtime.model.metadata import labels_of, preprocess_of, session_options_of
from vit_edge.runtime.model.outputs import (
    Features,
    OutputWanted,
    both_names,
    check_meaning,
    read_outputs,
    seem_probabilities,
)
from vit_edge.runtime.model.own_kernels import NotHere, need_kernels
from vit_edge.signing import check_signature
from vit_edge.spec import (
    CLS_EMBEDDING,
    LOGITS,
    PATCH_FEATURES,
    POOLED_EMBEDDING,
    InputForm,
    OutputKind,
    PreprocessSpec,
    tap_name,
)

T = TypeVar("T")

MOST_BYTES = 2**31 - 1  # protobuf's own limit

_ORT_FORMAT = b"ORTM"  # identifier of its flatbuffer, behind the first four bytes

ANYTHING = OutputWanted()  # nothing is stated about the outputs


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
    classes: int | None  # numbers per image, channels of a map; None where left open, and of an embedder
    features: Features | None = None  # of an embedder; None of a classifier
    image: ImageInput | None = None  # what the file calls its input, and how it lays it out
    scores: str = LOGITS  # what the file calls the output of a classifier
    output: OutputKind = OutputKind.SINGLE_LABEL  # what the numbers of a classifier mean
    told: bool = True  # whether somebody says so, or a final Softmax or Sigmoid shows it
    maps: tuple[Map, ...] = ()  # of a model of maps, the one that is shown first; () of anything else
    own_kernels: bool = False  # whether it needs the operators of vit-edge-kernels
    instead_of: str | None = None  # which file of the bundle it runs for, and why that one does not

    def loaded(self) -> "ModelFile":
        """What it says of itself, without its bytes: onnxruntime needs them no longer than it loads them."""
        return dataclasses.replace(self, data=b"")

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Pixels (height, width) by the input or else by the preprocessing; None where neither tells."""
        spec = self.preprocess
        return self.size or (None if spec is None else (spec.height, spec.width))

    @property
    def embeds(self) -> bool:
        """Whether it gives embeddings, beside or in place of a classifier's logits."""
        return self.features is not None or self.output.task is OutputKind.EMBEDDING

    @property
    def answers(self) -> int | None:
        """How many labels it knows; None where that is open, and of an embedder."""
        if self.labels is not None:
            return len(self.labels)
        return None if self.classes is None else self.output.answers(self.classes)

    @property
    def outputs(self) -> dict[str, tuple[int | None, ...]]:
        """Name of each output that the contract knows -> its shape for one image, None where left open."""
        if self.maps:
            return {each.name: each.shape for each in self.maps}
        if self.features is None:
            return {self.output.output_name: (self.classes,)}
        dim, grid = self.features.dim, self.features.grid
        vectors = [CLS_EMBEDDING, POOLED_EMBEDDING] if self.features.has_cls else [POOLED_EMBEDDING]
        grids = [PATCH_FEATURES, *map(tap_name, self.features.taps)]
        return {**dict.fromkeys(vectors, (dim,)), **dict.fromkeys(grids, (*grid, dim))}


def read_model(
    path: str | os.PathLike[str],
    role: Role | str | None = None,
    wanted: OutputWanted = ANYTHING,
    trust: str | os.PathLike[str] | None = None,
) -> ModelFile:
    """Read an ONNX file or a model of a bundle.

    Args:
        path: an ONNX file, or a bundle folder; of the latter, only bytes with the recorded SHA-256 are used.
        role: for a bundle, which model: a role, or a path inside it; by default the manifest's default_model.
        wanted: what the caller states about the outputs of somebody else's file.
        trust: a public key (PEM file) whose owner must have signed the bundle.

    Raises:
        ModelError: the file is missing, empty, too large, not ONNX, not self-contained, or not as above.
        BundleError: the bundle is malformed or has not exactly one model of that role.
        IntegrityError: the file is not the one that the bundle's manifest records.
        SignatureError: the bundle is not what the owner of the key has signed.
    """
    location = Path(path)
    if location.is_dir() or (not location.exists() and recover(location)):
        return _read_from_bundle(location, role, wanted, trust)
    if trust is not None:
        raise ModelError(f"{location} is no bundle folder, and a signature covers a bundle; give the bundle")
    if role is not None:
        raise ModelError(f"{location} is no bundle folder, so a role ({role}) cannot be chosen from it")
    return _model_file(location, _read_file(location), None, None, wanted)


def _read_from_bundle(
    folder: Path,
    role: Role | str | None,
    wanted: OutputWanted,
    trust: str | os.PathLike[str] | None,
) -> ModelFile:
    if not is_bundle(folder):
        raise ModelError(
            f"{folder} is a folder without vit_edge.json; give an ONNX file or a bundle, which "
            "vit-edge build makes of a checkpoint"
        )

    def read(bundle: Bundle) -> ModelFile:
        return _chosen(bundle if trust is None else check_signature(bundle, trust).bundle, role, wanted)

    return read_steadily(folder, read)


def _chosen(bundle: Bundle, role: Role | str | None, wanted: OutputWanted) -> ModelFile:
    name = chosen_name(bundle, role)
    try:
        return _of_bundle(bundle, name, wanted)
    except KernelsError as error:
        portable = bundle.with_role(Role.QUANTIZED)
        if role is not None or len(portable) != 1:
            raise
        model = _of_bundle(bundle, portable[0], wanted)
        return dataclasses.replace(model, instead_of=f"{error}: {portable[0]} runs in its place")


def _of_bundle(bundle: Bundle, name: str, wanted: OutputWanted) -> ModelFile:
    manifest = bundle.manifest
    return _model_file(bundle.path / name, bundle.read(name), manifest.preprocess, manifest.output, wanted)


def check_told(model: ModelFile, values: npt.NDArray[np.float32]) -> None:
    """Refuse numbers that nobody explains and that look like probabilities: softmax would be applied twice.

    Args:
        model: what gave them.
        values: (N, C), finite.

    Raises:
        ModelError: they do.
    """
    found = None if model.told or model.output is not OutputKind.SINGLE_LABEL else seem_probabilities(values)
    if found is not None:
        kinds = OutputKind.SINGLE_LABEL_PROBABILITIES, OutputKind.MULTI_LABEL_PROBABILITIES
        raise ModelError(
            f"{model.path} gives numbers that {found}, as probabilities do, but ends in no Softmax or "
            f"Sigmoid; state --output-kind {kinds[0].value}, {kinds[1].value} or {model.output.value}"
        )


def check_classifier(model: ModelFile) -> None:
    """Refuse a model whose numbers have no meaning that is known.

    Raises:
        ModelError: an embedder, or one number per image of which nothing says what it is.
    """
    if model.embeds:
        raise ModelError(f"{model.path} is an embedder, not a classifier; open it with vit_edge.Embedder")
    if model.maps:
        given, opener = what_is_given(model.maps)
        raise ModelError(
            f"{model.path} gives {given} ({model.scores}), no classes: open it with vit_edge.{opener}"
        )
    try:
        check_meaning(model.output, model.classes)
    except ValueError as error:
        raise ModelError(f"{model.path} {error}") from None


def _read_file(path: Path) -> bytes:
    try:
        data = read_file(path, MOST_BYTES)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; give an ONNX file or a bundle folder") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ModelError(f"{path} is larger than 2 GiB, which ONNX cannot hold in one file") from None
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); give an ONNX file or a bundle folder"
        ) from error
    if not data:
        raise ModelError(f"{path} is empty; export the model again")
    return data


def _model_file(
    path: Path,
    data: bytes,
    preprocess: PreprocessSpec | None,
    recorded: OutputKind | None,
    wanted: OutputWanted,
) -> ModelFile:
    try:
        header = read_header(data)
    except ValueError as error:
        if data[4:8] == _ORT_FORMAT:
            raise ModelError(
                f"{path} is no ONNX model but in onnxruntime's own format (.ort), whose labels and "
                "preprocessing cannot be read: give the ONNX file or the bundle that it was made from"
            ) from None
        raise ModelError(f"{path} is no ONNX model: {error}") from None
    try:
        check_self_contained(header)
        image = image_input(header)
        labels = labels_of(header.metadata)
        outputs = read_outputs(header, wanted, recorded, None if labels is None else len(labels))
        model = ModelFile(
            path=path,
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            labels=None if labels is None else both_names(labels, outputs.kind),
            preprocess=preprocess_of(header.metadata) or preprocess,
            session_options=session_options_of(header.metadata),
            metadata=header.metadata,
            form=image.form,
            batch=image.batch,
            size=image.size,
            classes=outputs.values,
            features=outputs.features,
            image=image,
            scores=outputs.name,
            output=outputs.kind,
            told=outputs.told,
            maps=outputs.maps,
            own_kernels=need_kernels(header.foreign_operators),
        )
        _check_agreement(model)
    except NotHere as error:
        raise KernelsError(f"{path} {error}") from None
    except ValueError as error:
        raise ModelError(f"{path} {error}") from None
    return model


def _check_agreement(model: ModelFile) -> None:
    answers = None if model.classes is None else model.output.answers(model.classes)
    if model.labels is not None and answers is not None and len(model.labels) != answers:
        raise ValueError(f"has {len(model.labels)} labels for {answers} classes; export it again")
    spec = model.preprocess
    if spec is not None and model.size is not None and model.size != (spec.height, spec.width):
        raise ValueError(
            f"takes {model.size} pixels but is preprocessed to {(spec.height, spec.width)}; export it again"
        )
