"""ONNX files as today's tools write them: read, brought to one form, and refused where they say too little.

Reference: torch's own module on the same images.
"""

import copy
import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from tests.host.vit_forms import FORMS, IMAGE, randomised, run
from vit_edge.arrays import Array
from vit_edge.errors import ContractError, ModelError, SourceError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.inspect import inspect_onnx
from vit_edge.host.convert.one_file import OptimizeSettings, optimize_model
from vit_edge.host.convert.onnx_io import read_onnx
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import CropRule, Interpolation, ResizeMode

HALF = (0.5, 0.5, 0.5)
GEOMETRY = SourceOptions(interpolation=Interpolation.BICUBIC, resize_mode=ResizeMode.EXACT)
STATED = dataclasses.replace(GEOMETRY, mean=HALF, std=HALF)
TOLERANCE = 1e-4  # of logits of order one: the same float32 weights, summed in another order
HALF_TOLERANCE = 2e-2  # weights rounded to 11 bits


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(FORMS["vit-eager"].build())


class Before(nn.Module):
    """The same classifier behind some arithmetic on its pixels."""

    mean: Tensor
    std: Tensor

    def __init__(self, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.model = before, model()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.before(x))
        return logits


class PerChannel(Before):
    """Mean and standard deviation as buffers, as torchvision's Normalize has them."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model((self.before(x) - self.mean) / self.std)
        return logits


def pixels() -> Array:
    return np.random.default_rng(5).integers(0, 256, (3, IMAGE, IMAGE, 3), np.uint8)


def write(
    module: nn.Module, path: Path, example: Tensor | None = None, axes: tuple[int, ...] = (0,), **more: Any
) -> Path:
    """As torch's older exporter writes it, with an input `x` and an output `y`."""
    given = torch.zeros(2, 3, IMAGE, IMAGE) if example is None else example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (given,),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {axis: f"axis_{axis}" for axis in axes}, "y": {0: "axis_0"}},
            **more,
        )
    return path


def answers(source: Source) -> Array:
    """Logits of the source on `pixels()`, exported, rewritten and lowered as `build` does it."""
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name)
    return run(lower(canonical, LowerSettings()), normalize(pixels(), source.preprocess))


def expected(module: nn.Module, images: Array) -> Array:
    with torch.inference_mode():
        logits: Array = module.eval()(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    return logits


def normalised() -> Array:
    return np.ascontiguousarray(((pixels() / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32))


def raw() -> Array:
    return np.ascontiguousarray(pixels().transpose(0, 3, 1, 2).astype(np.float32))


# --- open sizes


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3), (2, 3)], ids=["all", "sizes", "no batch"])
def test_an_open_height_and_width_are_fixed_by_the_image_size(axes: tuple[int, ...], tmp_path: Path) -> None:
    file = write(model(), tmp_path / "m.onnx", axes=axes)
    source = resolve(str(file), dataclasses.replace(STATED, image_size=(IMAGE, IMAGE)))
    assert len(source.labels) == 5
    assert np.abs(answers(source) - expected(model(), normalised())).max() < TOLERANCE


def test_an_open_size_that_nobody_states_is_asked_for(tmp_path: Path) -> None:
    file = write(model(), tmp_path / "m.onnx", axes=(0, 1, 2, 3))
    with pytest.raises(SourceError, match="say with --image-size what it was trained at"):
        resolve(str(file), STATED)


def test_a_number_of_classes_that_the_file_leaves_open_is_found_by_running_it(tmp_path: Path) -> None:
    file = write(model(), tmp_path / "m.onnx")
    whole = onnx.load(file)
    whole.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    onnx.save(whole, file)
    assert len(resolve(str(file), STATED).labels) == 5


# --- external data


def with_external_data(path: Path) -> Path:
    whole = onnx.load(write(model(), path))
    onnx.save(whole, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def test_external_data_beside_the_file_is_read_and_hashed(tmp_path: Path) -> None:
    file = with_external_data(tmp_path / "m.onnx")
    source = resolve(str(file), STATED)
    assert np.abs(answers(source) - expected(model(), normalised())).max() < TOLERANCE
    digests = [hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("m.onnx", "m.onnx.data")]
    lines = f"{digests[0]}  m.onnx\n{digests[1]}  m.onnx.data\n"
    assert source.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_torchs_default_export_with_its_data_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model(), (torch.zeros(1, 3, IMAGE, IMAGE),), str(path), dynamo=True, verbose=False)
    assert (tmp_path / "m.onnx.data").is_file()
    assert np.abs(answers(resolve(str(path), STATED)) - expected(model(), normalised())).max() < TOLERANCE


def _change(file: Path, **entries: str) -> None:
    changed = onnx.load(file, load_external_data=False)
    tensor = next(each for each in changed.graph.initializer if each.external_data)
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key, entry.value)
    file.write_bytes(changed.SerializeToString())


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/data", "..", "", "a\\b"])
def test_external_data_elsewhere_is_never_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10**6))
    file = with_external_data(folder / "m.onnx")
    _change(file, location=location)
    with pytest.raises(ModelError, match="which is no file of its own folder"):
        read_onnx(file)


def pipe(data: Path) -> None:
    data.unlink()
    os.mkfifo(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data.unlink(), "which is not beside it: copy that file there, too"),
        (lambda data: data.write_bytes(data.read_bytes()[:100]), "copy both files again"),
        (lambda data: (data.rename(data.with_name("real")), data.symlink_to("real")), "is a link"),
        (pipe, "is no regular file"),
    ],
    ids=["absent", "short", "a link", "a pipe"],
)
def test_a_data_file_that_is_not_what_it_should_be_is_refused(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    file = with_external_data(tmp_path / "m.onnx")
    spoil(tmp_path / "m.onnx.data")
    with pytest.raises(ModelError, match=message):
        read_onnx(file)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "-8"}, "copy both files again"),
        ({"offset": str(2**40)}, "copy both files again"),
        ({"length": "3"}, "copy both files again"),
        ({"offset": "first"}, "does not say where"),
    ],
)
def test_a_place_that_the_data_file_does_not_have_is_refused(
    entries: dict[str, str], message: str, tmp_path: Path
) -> None:
    file = with_external_data(tmp_path / "m.onnx")
    _change(file, **entries)
    with pytest.raises(ModelError, match=message):
        read_onnx(file)


def test_a_crop_that_nobody_says_the_rounding_of_is_noted(tmp_path: Path) -> None:
    file = str(write(model(), tmp_path / "m.onnx"))
    cropped = dataclasses.replace(STATED, resize_mode=None, crop_pct=0.9)
    told = "an odd margin of the centre crop is halved as torchvision does it: pass --crop-rule if not"
    assert told in resolve(file, cropped).notes
    ruled = dataclasses.replace(cropped, crop_rule=CropRule.TRANSFORMERS)
    assert told not in resolve(file, ruled).notes
    assert told not in resolve(file, STATED).notes  # nothing is cropped


# --- layout and normalisation inside the graph

INSIDE: dict[str, Callable[[], nn.Module]] = {
    "x / 255": lambda: Before(lambda x: x / 255),
    "(x / 255 - 0.5) / 0.5": lambda: Before(lambda x: (x / 255 - 0.5) / 0.5),
    "x * 2 / 255 - 1": lambda: Before(lambda x: x * 2 / 255 - 1),
    "x * (2 / 255) + -1": lambda: Before(lambda x: -1 + x * (2 / 255)),
    "(x / 255 - mean) / std": lambda: PerChannel(lambda x: x / 255),
}


@pytest.mark.parametrize("form", INSIDE)
def test_normalisation_inside_the_graph_is_folded(form: str, tmp_path: Path) -> None:
    module = INSIDE[form]()
    source = resolve(str(write(module, tmp_path / "m.onnx")), GEOMETRY)
    assert "takes pixels of 0 to 255 and normalises them itself" in source.notes[-1]
    assert source.preprocess.std == (1 / 255,) * 3
    assert np.abs(answers(source) - expected(module, raw())).max() < TOLERANCE


def test_normalisation_of_pixels_between_0_and_1_is_folded(tmp_path: Path) -> None:
    module = PerChannel(lambda x: x)
    source = resolve(str(write(module, tmp_path / "m.onnx")), GEOMETRY)
    assert "takes pixels of 0 to 1" in source.notes[-1]
    assert source.preprocess.std == (1.0, 1.0, 1.0)
    assert np.abs(answers(source) - expected(module, raw() / 255)).max() < TOLERANCE


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8], ids=["float32", "uint8"])
def test_channels_last_pixels_are_moved_and_normalised_as_inside(kind: torch.dtype, tmp_path: Path) -> None:
    module = Before(lambda x: (x.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
    file = write(module, tmp_path / "m.onnx", torch.zeros(2, IMAGE, IMAGE, 3, dtype=kind))
    source = resolve(str(file), GEOMETRY)
    given = pixels().astype(np.float32 if kind is torch.float32 else np.uint8)
    assert np.abs(answers(source) - expected(module, given)).max() < TOLERANCE
    _, parity = export(source)
    assert parity is not None  # to the file as it was


def test_channels_last_without_normalisation_takes_what_is_stated(tmp_path: Path) -> None:
    module = Before(lambda x: x.permute(0, 3, 1, 2))
    file = write(module, tmp_path / "m.onnx", torch.zeros(2, IMAGE, IMAGE, 3))
    source = resolve(str(file), STATED)
    assert np.abs(answers(source) - expected(model(), normalised())).max() < TOLERANCE


def test_a_second_normalisation_on_top_of_that_inside_is_refused(tmp_path: Path) -> None:
    file = write(INSIDE["x / 255"](), tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="normalises them itself: leave --mean and --std out"):
        resolve(str(file), STATED)


def test_a_scale_that_fits_no_range_is_asked_about(tmp_path: Path) -> None:
    module = Before(lambda x: x * 0.25)
    file = write(module, tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="state with --mean and --std what it takes"):
        resolve(str(file), GEOMETRY)
    assert np.abs(answers(resolve(str(file), STATED)) - expected(module, normalised())).max() < TOLERANCE


class PerPixel(Before):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x - torch.linspace(0, 1, IMAGE))
        return logits


def test_arithmetic_that_differs_from_pixel_to_pixel_is_no_vit_and_says_so(tmp_path: Path) -> None:
    file = write(PerPixel(lambda x: x), tmp_path / "m.onnx")
    with pytest.raises(ContractError, match="no scaling and shifting of its channels"):
        answers(resolve(str(file), STATED))


def test_optimize_takes_the_same_files(tmp_path: Path) -> None:
    module = Before(lambda x: x.permute(0, 3, 1, 2) / 255)
    write(module, tmp_path / "m.onnx", torch.zeros(2, IMAGE, IMAGE, 3))
    optimize_model(tmp_path / "m.onnx", tmp_path / "o.onnx", OptimizeSettings())
    given = raw()
    found = run(onnx.load(tmp_path / "o.onnx"), given)
    assert np.abs(found - expected(module, given.transpose(0, 2, 3, 1))).max() < TOLERANCE
    assert inspect_onnx(tmp_path / "m.onnx").description is not None


# --- number formats


def half(path: Path, keep: bool) -> Path:
    whole = onnx.load(write(model(), path))
    onnx.save(convert_float_to_float16(whole, keep_io_types=keep), path)
    return path


@pytest.mark.parametrize("keep", [True, False], ids=["float32 outside", "float16 throughout"])
def test_float16_weights_are_computed_in_float32(keep: bool, tmp_path: Path) -> None:
    source = resolve(str(half(tmp_path / "m.onnx", keep)), STATED)
    exported, parity = export(source)
    kinds = {numpy_helper.to_array(tensor).dtype.name for tensor in exported.graph.initializer}
    assert "float16" not in kinds
    assert parity is not None
    assert np.abs(answers(source) - expected(model(), normalised())).max() < HALF_TOLERANCE


def test_float64_is_computed_in_float32(tmp_path: Path) -> None:
    file = write(
        copy.deepcopy(model()).double(), tmp_path / "m.onnx", torch.zeros(2, 3, IMAGE, IMAGE).double()
    )
    source = resolve(str(file), STATED)
    assert np.abs(answers(source) - expected(model(), normalised())).max() < TOLERANCE


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "QDQ"])
def test_a_quantized_file_is_refused_with_the_mend(static: bool, tmp_path: Path) -> None:
    file = write(model(), tmp_path / "m.onnx")
    out = tmp_path / "q.onnx"
    if static:
        whole = onnx.load(file)
        node = onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"])
        back = onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["xx"])
        for each in whole.graph.node:
            each.input[:] = ["xx" if name == "x" else name for name in each.input]
        whole.graph.node.insert(0, back)
        whole.graph.node.insert(0, node)
        whole.graph.initializer.append(numpy_helper.from_array(np.asarray(0.1, np.float32), "scale"))
        whole.graph.initializer.append(numpy_helper.from_array(np.asarray(3, np.uint8), "zero"))
        onnx.save(whole, out)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_dynamic(file, out, weight_type=QuantType.QInt8)
    with pytest.raises(
        SourceError, match=r"is quantized already .*pass the float model that it was made from"
    ):
        resolve(str(out), STATED)
    assert "pass the float model" in (inspect_onnx(out).refusal or "")


# --- inputs that are no image


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ([1, 3, 8, 8], TensorProto.INT64, "INT64, not floating point or uint8"),
        ([1, 5, 8, 8], TensorProto.FLOAT, "no axis of 3 colour channels"),
        ([1, 192], TensorProto.FLOAT, "rank 4"),
    ],
)
def test_an_input_that_is_no_image_is_refused(
    shape: list[int], kind: int, message: str, tmp_path: Path
) -> None:
    given = onnx.helper.make_tensor_value_info("x", kind, shape)
    made = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Flatten", ["x"], ["y"])], "g", [given], [made])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path / "m.onnx"), STATED)


def test_a_second_input_is_named(tmp_path: Path) -> None:
    file = write(model(), tmp_path / "m.onnx")
    two = onnx.load(file)
    two.graph.input.append(onnx.helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 4]))
    onnx.save(two, file)
    with pytest.raises(SourceError, match=r"must have one input, a batch of images \(its inputs: x, mask\)"):
        resolve(str(file), STATED)


def test_metadata_of_ours_says_what_the_pixels_are(tmp_path: Path) -> None:
    """The statistics in the file belong to its input, whatever the graph does behind it."""
    file = write(INSIDE["(x / 255 - 0.5) / 0.5"](), tmp_path / "m.onnx")
    spec = resolve(str(file), GEOMETRY).preprocess
    stamped = onnx.load(file)
    onnx.helper.set_model_props(stamped, {"vit_edge.preprocess": json.dumps(spec.to_json())})
    onnx.save(stamped, file)
    assert resolve(str(file), SourceOptions()).preprocess == spec
