"""What every package holds of a bundle: the portable model files, how to use them, how to check the home."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_edge import fields
from vit_edge.bundle import Bundle, Role, read_bundle
from vit_edge.errors import BundleError, ModelError
from vit_edge.golden import TENSORS
from vit_edge.manifest import FORMAT_VERSION
from vit_edge.runtime.image.preprocess import to_pixels
from vit_edge.runtime.model.file import ModelFile, check_classifier, read_model
from vit_edge.runtime.model.maps import detection_outputs, what_is_given
from vit_edge.spec import LOGITS, InputForm, OutputKind, PreprocessSpec

NAMES = {Role.FLOAT: "float", Role.QUANTIZED: "int8"}  # of the files in a package

ARITHMETICS = ("any", "exact", "saturating")  # in which answers are recorded

# Width and height of the pictures that preprocessing is checked with: none is tall, as releases of Pillow
# before 13 shrink tall pictures across first, and later ones down first, which rounds otherwise.
_VECTORS = ((331, 217), (61, 40))


@dataclasses.dataclass(frozen=True)
class PackedModel:
    """A model file of a package."""

    name: str  # float or int8
    path: str  # in the package
    model: ModelFile

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of one image."""
        height, width = self.model.input_size or (0, 0)
        return (1, height, width, 3) if self.model.form is InputForm.PIXELS else (1, 3, height, width)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """What it gives for one image, by its name in the file."""
        return {name: tuple(side or 0 for side in shape) for name, shape in self.model.outputs.items()}

    @property
    def input_type(self) -> str:
        """As onnxruntime calls it."""
        return "uint8" if self.model.form is InputForm.PIXELS else "float32"


@dataclasses.dataclass(frozen=True, eq=False)
class Vector:
    """A picture and what Pillow makes of it for the model, both as bytes of RGB."""

    file: str
    expected: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a model file answered for one input where the bundle was built."""

    model: str
    arithmetic: str  # any, exact or saturating
    input_file: str
    output_file: str
    tolerance: float  # largest allowed absolute difference of a value


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """A bundle as a home sees it."""

    source: str  # the checkpoint's name
    bundle_sha256: str  # of the manifest
    models: tuple[PackedModel, ...]
    default: str  # name of a model
    labels: tuple[str, ...] | None
    output: OutputKind
    preprocess: PreprocessSpec
    vectors: tuple[Vector, ...]
    cases: tuple[Recorded, ...]
    files: Mapping[str, bytes]  # models, golden cases and vectors

    @property
    def gives(self) -> str | None:
        """`boxes` or `maps`; None of a classifier."""
        maps = self.models[0].model.maps
        return what_is_given(maps)[0] if maps else None

    def about(self) -> dict[str, Any]:
        """The content of `model.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "bundle_sha256": self.bundle_sha256,
            "default": self.default,
            "output_kind": self.output.value,
            "preprocess": self.preprocess.to_json(),
            "files": [
                {
                    "name": each.name,
                    "file": each.path,
                    "sha256": each.model.sha256,
                    "size": len(each.model.data),
                    "input": each.model.form.value,
                    "input_type": each.input_type,
                    "input_shape": list(each.input_shape),
                    "output": each.model.scores if self.gives else LOGITS,
                    **(
                        {"outputs": {name: list(shape) for name, shape in each.outputs.items()}}
                        if self.gives
                        else {}
                    ),
                    "session_options": dict(each.model.session_options),
                }
                for each in self.models
            ],
            **({"gives": self.gives, **self._boxes()} if self.gives else {}),
            "vectors": [dataclasses.asdict(each) for each in self.vectors],
            "labels": None if self.labels is None else list(self.labels),
        }

    def _boxes(self) -> dict[str, Any]:
        """The outputs that boxes are read from."""
        found = detection_outputs(self.models[0].model.maps)
        return {} if found is None else {"boxes": {"logits": found.logits, "boxes": found.boxes}}


def contents_of(path: Path) -> Contents:
    """Read what a package needs of a bundle; every byte is checked against the manifest.

    Raises:
        BundleError: no bundle, a malformed or damaged one, or one without golden cases for other languages.
        ModelError: a model file that takes no single images.
    """
    bundle = read_bundle(path)
    models = tuple(_packed(bundle, name, role) for role in NAMES for name in bundle.with_role(role)[:1])
    if not models:
        raise BundleError(f"{path} has no portable model file; build it with --target cpu as well")
    spec, output = _meaning(bundle, models)
    runs_float = bundle.manifest.files[bundle.manifest.default_model].role is Role.FLOAT
    wanted = "float" if runs_float else "int8"
    vectors, pictures = _vectors(spec)
    cases, golden = _golden(bundle, models)
    return Contents(
        source=bundle.manifest.source.name,
        bundle_sha256=bundle.sha256,
        models=models,
        default=wanted if wanted in {each.name for each in models} else models[0].name,
        labels=models[0].model.labels,
        output=output,
        preprocess=spec,
        vectors=vectors,
        cases=cases,
        files={each.path: each.model.data for each in models} | golden | pictures,
    )


def _packed(bundle: Bundle, name: str, role: Role) -> PackedModel:
    model = read_model(bundle.path, name)
    if not model.maps:
        check_classifier(model)
    elif any(side is None for each in model.maps for side in each.shape):
        raise ModelError(f"{model.path} leaves the size of its maps open; export it for one size of image")
    if model.batch not in (None, 1):
        raise ModelError(
            f"{model.path} takes {model.batch} images at a time; an app needs a file that takes one"
        )
    if model.input_size is None:
        raise ModelError(f"{model.path} does not say how large its images are")
    return PackedModel(NAMES[role], name, model)


def _meaning(bundle: Bundle, models: tuple[PackedModel, ...]) -> tuple[PreprocessSpec, OutputKind]:
    """What the files themselves say goes before the manifest, as where they run; an app has one for all."""
    found = {(packed.model.preprocess, packed.model.output) for packed in models}
    [(spec, output), *others] = found
    if others or spec is None:
        raise BundleError(
            f"{bundle.path}: its models do not say the same of preprocessing and output; build it again"
        )
    return spec, output


def _golden(bundle: Bundle, models: tuple[PackedModel, ...]) -> tuple[tuple[Recorded, ...], dict[str, bytes]]:
    """The cases of the packed models, one on each line, and the files that they name."""
    if TENSORS not in bundle.manifest.files:
        raise BundleError(
            f"{bundle.path} has no {TENSORS}, by which a home is checked; build it again with this vit-edge"
        )
    try:
        raw = fields.mapping(fields.parse_json(bundle.read(TENSORS), "the file"), "the file")
        listed = fields.sequence(raw.pop("cases", None), "cases")
        every = [fields.mapping(each, "each case") for each in listed]
        names = {str(case.get("model")) for case in every}
        kept = [case for case in every if case.get("model") in {model.path for model in models}]
        cases = tuple(map(_recorded, kept))
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{bundle.path / TENSORS}: {error}") from None
    missing = [model.path for model in models if model.path not in names]
    if missing:
        raise BundleError(f"{bundle.path / TENSORS} has no case of {missing[0]}; build the bundle again")
    head = json.dumps(raw)[:-1]
    lines = ",\n".join(json.dumps(case) for case in kept)
    text = f'{head}{", " if raw else ""}"cases": [\n{lines}\n]}}\n'
    wanted = dict.fromkeys(name for case in cases for name in (case.input_file, case.output_file))
    return cases, {TENSORS: text.encode()} | {name: bundle.read(name) for name in wanted}


def _recorded(raw: Mapping[str, Any]) -> Recorded:
    """ValueError names a key that is wrong."""
    return Recorded(
        model=fields.string(raw.get("model"), "model"),
        arithmetic=fields.choice(raw.get("arithmetic"), "arithmetic", ARITHMETICS),
        input_file=fields.string(raw.get("input_file"), "input_file"),
        output_file=fields.string(raw.get("output_file"), "output_file"),
        tolerance=fields.number(raw.get("tolerance"), "tolerance"),
    )


def _vectors(spec: PreprocessSpec) -> tuple[tuple[Vector, ...], dict[str, bytes]]:
    """Pictures of waves and noise, whose every pixel counts in the resize."""
    vectors, files = [], {}
    for index, (width, height) in enumerate(_VECTORS):
        rows, columns = np.mgrid[0:height, 0:width]
        waves = np.stack([np.sin(rows / 5), np.cos(columns / 7), np.sin((rows + columns) / 9)], -1)
        noise = np.random.default_rng(index).integers(-60, 60, waves.shape)
        pixels = np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)
        vector = Vector(f"golden/picture.{index}.bin", f"golden/resized.{index}.bin", width, height)
        files[vector.file] = pixels.tobytes()
        files[vector.expected] = to_pixels(Image.fromarray(pixels), spec).tobytes()
        vectors.append(vector)
    return tuple(vectors), files
