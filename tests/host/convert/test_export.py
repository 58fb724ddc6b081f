"""Export to one ONNX file: its form, its parity with torch, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.onnx._internal.exporter._registration import ONNXRegistry

from tests.exporter import ASKED, READ
from vit_edge.errors import ModelError, ParityError, SourceError, UsageError
from vit_edge.host.convert.export import export, torch_runner
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.convert.onnx_io import read_metadata
from vit_edge.host.convert.parity import check_parity, random_images
from vit_edge.host.ort import runner
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import Interpolation

ROOT = Path(__file__).resolve().parents[3]
OWN = SourceOptions(
    image_size=(16, 16),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    interpolation=Interpolation.BICUBIC,
    crop_pct=1.0,
    trust_code=True,
)


@pytest.fixture(autouse=True, scope="module")
def asked_anew() -> Iterator[None]:
    """What torch says while it exports is a matter of this file: nothing is taken from an earlier export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", ASKED)
        patch.setattr(ONNXRegistry, "from_torchlib", READ)
        yield


@pytest.fixture(scope="module", params=[None, 3], ids=["dynamic", "batch of 3"])
def exported(
    request: pytest.FixtureRequest, digits: Source, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int | None, Path]:
    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    export_model(digits, path, request.param)
    return request.param, path


def test_the_file_has_exactly_the_promised_form(exported: tuple[int | None, Path]) -> None:
    batch, path = exported
    model = onnx.load(path)
    assert model.ir_version == 9
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    first = batch or "batch"
    assert shapes == {"pixel_values": [first, 3, 32, 32], "logits": [first, 10]}


def test_the_file_tells_nothing_about_the_machine(exported: tuple[int | None, Path]) -> None:
    data = exported[1].read_bytes()
    for trace in (
        str(ROOT).encode(),
        b"stack_trace",
        b"site-packages",
        b".py",
        b"pkg.torch",
        str(Path.home()).encode(),
    ):
        assert trace not in data


def test_labels_preprocessing_and_source_are_in_the_file(
    exported: tuple[int | None, Path], digits: Source
) -> None:
    metadata = read_metadata(onnx.load(exported[1]), "digits.onnx")
    assert metadata == ModelMetadata(digits.labels, digits.preprocess, (), (digits.name, digits.sha256))


@pytest.mark.parametrize("images", [1, 3, 5])
def test_logits_are_those_of_torch(exported: tuple[int | None, Path], digits: Source, images: int) -> None:
    """Outside reference: torch itself; 1e-4 allows for another order of float32 sums."""
    batch, path = exported
    if batch not in (None, images):
        images = batch
    given = np.random.default_rng(5).normal(size=(images, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"pixel_values": given})[0]
    assert digits.module is not None
    with torch.inference_mode():
        expected = digits.module(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_exporting_prints_nothing(digits: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_model(digits, tmp_path / "d.onnx", 1)
    assert capfd.readouterr() == ("", "")


MODULE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Linear(4, 6)
    def forward(self, x):
        return self.head(self.conv(x).flatten(2).mean(2))

class Random(Small):
    def forward(self, x):
        return super().forward(x) + torch.rand(6)

class Branching(Small):
    def forward(self, x):
        return super().forward(x) * (1 if float(x.sum()) > 0 else 2)

def small(): return Small()
def random(): return Random()
def branching(): return Branching()
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_small_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_own_code_is_exported_like_a_checkpoint(batch: int | None) -> None:
    source = resolve("own_small_models:small", OWN)
    model, parity = export(source, batch)
    assert parity is not None
    assert parity.largest <= 1e-5
    assert model.graph.input[0].name == "pixel_values"


@pytest.mark.usefixtures("own_code")
def test_a_model_that_answers_differently_each_time_fails_parity() -> None:
    with pytest.raises(ParityError, match="the export of random differs from torch: max"):
        export(resolve("own_small_models:random", OWN))


@pytest.mark.usefixtures("own_code")
def test_a_model_that_torch_cannot_trace_is_refused_in_one_sentence() -> None:
    with pytest.raises(SourceError, match="torch cannot export branching: ") as raised:
        export(resolve("own_small_models:branching", OWN))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch", [0, -1, 5000])
def test_a_batch_that_no_file_can_have_is_refused(digits: Source, batch: int) -> None:
    with pytest.raises(UsageError, match="batch must be 1 to 1024"):
        export(digits, batch)


def foreign(image: str, output: str, inner: str = "hidden") -> onnx.ModelProto:
    """Somebody's classifier: channel means to two logits, under names of their choice."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", [image], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], [inner]),
            helper.make_node("Gemm", [inner, "w"], [output]),
        ],
        "foreign",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, [2, 3, 16, 16])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("image", "output", "inner"),
    [("x", "y", "hidden"), ("pixel_values", "logits", "hidden"), ("images", "scores", "logits")],
    ids=["other names", "the right names", "a name that is taken inside"],
)
def test_an_onnx_source_is_kept_and_only_renamed(tmp_path: Path, image: str, output: str, inner: str) -> None:
    original = foreign(image, output, inner)
    onnx.save(original, tmp_path / "m.onnx")
    source = resolve(str(tmp_path / "m.onnx"), OWN)
    model, parity = export(source)
    assert parity is None
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("pixel_values", "logits")
    onnx.checker.check_model(model, full_check=True)
    images = random_images(16, 16, count=3)
    np.testing.assert_array_equal(runner(model, "new")(images), runner(original, "old")(images))


def test_a_batch_for_an_onnx_source_is_refused(tmp_path: Path) -> None:
    onnx.save(foreign("x", "y"), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="batch size of its own"):
        export(resolve(str(tmp_path / "m.onnx"), OWN), 4)


def test_parity_counts_against_the_largest_logit(digits: Source) -> None:
    assert digits.module is not None
    reference = torch_runner(digits.module)
    images = random_images(32, 32)
    scale = float(np.abs(reference(images)).max())
    close = check_parity(reference, lambda given: reference(given) + 0.0009 * scale, images, 1e-3, "it")
    assert close.largest == pytest.approx(0.0009 * scale, rel=1e-3)
    with pytest.raises(ParityError, match="it: max"):
        check_parity(reference, lambda given: reference(given) + 0.0011 * scale, images, 1e-3, "it")


def test_parity_is_checked_on_batches_too(digits: Source) -> None:
    """A form that mixes the images of a batch agrees on single images only."""
    assert digits.module is not None
    reference = torch_runner(digits.module)
    with pytest.raises(ParityError):
        check_parity(
            reference, lambda given: reference(given[::-1].copy()), random_images(32, 32), 1e-3, "it"
        )


@pytest.mark.parametrize(
    ("logits", "cause"), [(np.zeros((1, 9)), "of shape"), (np.full((1, 10), np.nan), "not finite")]
)
def test_parity_refuses_logits_that_cannot_be_compared(
    digits: Source, logits: np.ndarray, cause: str
) -> None:
    assert digits.module is not None
    with pytest.raises(ModelError, match=cause):
        check_parity(torch_runner(digits.module), lambda _: logits, random_images(32, 32, 1), 1e-3, "it")
