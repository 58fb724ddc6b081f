"""TorchScript archives as OpenAI's: their tensors are read, and nothing of their program is run."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.host.sources.test_clip_keys import SIDE, images, openai_state, theirs, vectors
from vit_edge.errors import SourceError
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.checkpoints.files import read_checkpoint
from vit_edge.host.sources.checkpoints.torchscript import read_torchscript


class Nested(nn.Module):
    """A module with parameters and buffers at several depths, one tensor a view of another's storage."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.LayerNorm(4)})
        self.token = nn.Parameter(torch.randn(2, 3).t())
        self.size = nn.Buffer(torch.tensor(224))
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner["b"](self.inner["a"](x)) + self.token.sum() * self.size + self.empty.sum()
        return y


def written(module: nn.Module, path: Path, example: Tensor) -> Path:
    jit: Any = torch.jit
    jit.save(jit.trace(module.eval(), example, check_trace=False), path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_its_tensors_are_those_of_torch(kind: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = written(Nested().to(kind), tmp_path / "m.pt", torch.ones(1, 3, dtype=kind))
    jit: Any = torch.jit
    expected = jit.load(file).state_dict()
    found = read_torchscript(file)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype is value.dtype
        assert torch.equal(found[name], value), name


class Openais(nn.Module):
    """A CLIP under OpenAI's keys, as far as its tensors go; in half precision, as OpenAI's own."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for key, value in state.items():
            holder: nn.Module = self
            *parts, last = key.split(".")
            for part in parts:
                if not hasattr(holder, part):
                    holder.add_module(part, nn.Module())
                holder = getattr(holder, part)
            holder.register_parameter(last, nn.Parameter(value.half()))
        self.input_resolution = nn.Buffer(torch.tensor(SIDE))
        self.context_length = nn.Buffer(torch.tensor(77))

    def forward(self, x: Tensor) -> Tensor:
        scale: Any = self.logit_scale
        y: Tensor = x + scale
        return y


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_clip_as_openai_keeps_it_gives_its_vector(tmp_path: Path) -> None:
    model = theirs("quick_gelu", dim=384, heads=6)
    file = written(Openais(openai_state(model)), tmp_path / "ViT-S-32.pt", torch.ones(1))
    source = resolve(str(file), SourceOptions(arch="ViT-S/32"))
    rounded = theirs("quick_gelu", dim=384, heads=6).half().float()
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(source.module(images()), vectors(rounded, images()), atol=1e-5, rtol=0)


# --- what is refused


class Evil:
    """Runs a command when a plain unpickler meets it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/ran",)


def archive(path: Path, pickled: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/code/__torch__/model.py", "raise SystemExit")
        made.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            made.writestr(f"archive/data/{key}", data)
    return path


def test_what_its_pickle_would_call_is_refused_by_name(tmp_path: Path) -> None:
    file = archive(tmp_path / "m.pt", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(SourceError, match=r"names \w+\.system, which no model's tensors need"):
        read_checkpoint(file)


@pytest.mark.parametrize("pickled", [b"", b"\x80\x02", b"garbage", pickle.dumps({"a": 1}, protocol=2)[:-3]])
def test_a_damaged_archive_is_refused(pickled: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="TorchScript program whose tensors cannot be read"):
        read_checkpoint(archive(tmp_path / "m.pt", pickled))


def tensor_of(size: tuple[int, ...], stride: tuple[int, ...], count: int) -> bytes:
    """The pickle of one module whose attribute is a tensor of these sizes."""

    class Written(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.pid if isinstance(value, Storage) else None

    class Storage:
        pid = ("storage", None, "0", "cpu", count)

    class Rebuilt:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, size, stride, False, None)

    made = io.BytesIO()
    Written(made, protocol=2).dump(Rebuilt())
    return made.getvalue().replace(b"N" + b"X\x01\x00\x00\x000", b"ctorch\nFloatStorage\nX\x01\x00\x00\x000")


@pytest.mark.parametrize(
    ("size", "stride", "count"),
    [((4,), (1,), 8), ((100,), (1,), 4), ((2, 2), (100, 1), 4), ((2**40,), (0,), 4)],
)
def test_sizes_beyond_its_storages_are_refused(
    size: tuple[int, ...], stride: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    file = archive(tmp_path / "m.pt", tensor_of(size, stride, count), **{"0": bytes(16)})
    with pytest.raises(SourceError, match=r"cannot be read|shorter than it says"):
        read_torchscript(file)
