"""A newer x86-64 machine as one with AVX2 alone: what is hidden, from whom, and that nothing else changes."""

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.refusal import Refusal
from tools.as_avx2 import __main__ as as_avx2
from tools.as_avx2.__main__ import NOTE, main, without_flags
from tools.as_avx2.libraries import CPUID, TRAP, cpuid_addresses, default_cache, shared_libraries, trapping
from vit_edge.errors import UsageError
from vit_edge.runtime.device.machine import cpu_flags, parse_cpuinfo

ROOT = Path(__file__).resolve().parents[2]
CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs
ABSENT = as_avx2.missing()
here = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
wide = pytest.mark.skipif("avx512f" not in cpu_flags(), reason="needs a CPU with AVX-512")

ASKING = """
#include <cpuid.h>
unsigned leaf7(void) { unsigned a, b, c, d; __cpuid_count(7, 0, a, b, c, d); return b; }
unsigned vnni(void) { unsigned a, b, c, d; __cpuid_count(7, 0, a, b, c, d); return c >> 11 & 1; }
unsigned family(void) { unsigned a, b, c, d; __cpuid_count(1, 0, a, b, c, d); return a; }
"""
AVX2, AVX512F = 1 << 5, 1 << 16


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that asks the CPU three things."""
    if ABSENT is not None:
        pytest.skip(ABSENT)
    folder = tmp_path_factory.mktemp("asking")
    (folder / "asking.c").write_text(ASKING)
    return compiled(folder / "asking.c")


def compiled(source: Path) -> Path:
    out = source.with_suffix(".so")
    command = [str(shutil.which("cc")), "-O1", "-shared", "-fPIC", str(source), "-o", str(out)]
    subprocess.run(command, check=True)
    return out


def asked(library: Path) -> dict[str, int]:
    own = ctypes.CDLL(str(library))
    return {name: getattr(own, name)() for name in ("leaf7", "vnni", "family")}


def python_within(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.as_avx2", *words, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@here
@wide
def test_a_library_sees_avx2_and_nothing_wider_and_all_else_as_it_is(asking: Path, tmp_path: Path) -> None:
    code = (
        f"from tests.tools.test_as_avx2 import asked; import json, pathlib\n"
        f"print(json.dumps(asked(pathlib.Path({str(asking)!r}))))"
    )
    done = python_within(code, "--package", str(asking), "--cache", str(tmp_path))
    assert done.returncode == 0, done.stderr
    within, outside = json.loads(done.stdout), asked(asking)
    assert outside["leaf7"] & AVX512F
    assert not within["leaf7"] & AVX512F
    assert within["leaf7"] & AVX2 == outside["leaf7"] & AVX2 == AVX2
    assert within["vnni"] == 0
    assert within["family"] & 0x0FFF3FFF == outside["family"] & 0x0FFF3FFF


@here
@wide
def test_onnxruntime_adds_pairs_of_products_in_int16_as_it_does_on_such_a_cpu() -> None:
    """255 * 127 + 255 * 127 is 64,770, of which int16 keeps 32,767."""
    code = """
import numpy as np, onnxruntime
from onnx import helper, numpy_helper, TensorProto as T
from vit_edge.runtime.device.machine import describe_machine as described, may_saturate
weights = numpy_helper.from_array(np.full((64, 64), 127, np.int8), "w")
node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", T.UINT8, [8, 64])],
                          [helper.make_tensor_value_info("y", T.INT32, [8, 64])], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
given = np.full((8, 64), 255, np.uint8)
print(session.run(None, {"x": given})[0].max(), may_saturate(), described().cpu)
"""
    done = python_within(code, "--package", "onnxruntime", "--cache", str(CACHE))
    assert done.returncode == 0, done.stderr
    value, saturates, cpu = done.stdout.strip().split(" ", 2)
    assert int(value) == 32 * 32767
    assert saturates == "True"
    assert cpu.endswith(NOTE)


@here
@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("print(1)", 0)])
def test_the_status_is_that_of_the_command(code: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert python_within(code, "--package", str(tmp_path / "empty")).returncode == status


@here
@pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable(); "])
def test_a_fault_of_the_programs_own_still_ends_it(before: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = python_within(f"{before}import ctypes; ctypes.string_at(8)", "--package", str(tmp_path / "empty"))
    assert done.returncode == 139
    assert ("Segmentation fault" in done.stderr) == bool(before)


@here
def test_the_library_itself_and_the_systems_cpuinfo_stay_as_they_are(asking: Path, tmp_path: Path) -> None:
    data, info = asking.read_bytes(), parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    assert python_within("print(1)", "--package", str(asking), "--cache", str(tmp_path)).returncode == 0
    assert asking.read_bytes() == data
    assert parse_cpuinfo(Path("/proc/cpuinfo").read_text()) == info


@here
def test_a_copy_differs_in_its_cpuid_alone_and_is_made_once(asking: Path, tmp_path: Path) -> None:
    copy = trapping(asking, tmp_path)
    assert copy is not None
    ours, theirs = asking.read_bytes(), copy.read_bytes()
    differing = [place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    assert len(differing) == 2 * len(cpuid_addresses(asking)) == 6
    for place in differing[::2]:
        assert (ours[place : place + 2], theirs[place : place + 2]) == (CPUID, TRAP)
    stamp = copy.stat().st_mtime_ns
    assert trapping(asking, tmp_path) == copy
    assert copy.stat().st_mtime_ns == stamp


@here
def test_a_library_that_asks_nothing_has_no_copy(tmp_path: Path) -> None:
    (tmp_path / "none.c").write_text(
        "int f(void) { return 0x0fa2; }  const char s[] = {0x0f, 0xa2, 0x0f, 0xa2};"
    )
    out = compiled(tmp_path / "none.c")
    assert trapping(out, tmp_path / "cache") is None
    assert trapping(out, tmp_path / "cache") is None  # from what is kept


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    if shutil.which("objdump") is None:
        pytest.skip("needs objdump (Debian: binutils)")
    (tmp_path / "odd.so").write_bytes(b"\x7fELF" + CPUID * 40)
    with pytest.raises(UsageError, match=r"objdump does not read .*odd\.so|odd\.so is no 64-bit ELF file"):
        trapping(tmp_path / "odd.so", tmp_path)


def test_libraries_are_found_by_name_and_links_left_out(tmp_path: Path) -> None:
    for name in ("a.so", "b.so.1.2", "c.py", "d.sock"):
        (tmp_path / name).touch()
    (tmp_path / "e.so").symlink_to(tmp_path / "a.so")
    assert [file.name for file in shared_libraries([tmp_path])] == ["a.so", "b.so.1.2"]
    assert shared_libraries([tmp_path / "a.so"]) == [tmp_path / "a.so"]


def test_cpuinfo_loses_what_is_hidden_and_tells_so() -> None:
    text = "model name\t: A CPU\nflags\t\t: fma avx2 avx512f avx512_vnni avx_vnni amx_int8\nbugs\t\t:\n\n"
    assert without_flags(text * 2) == (f"model name\t: A CPU{NOTE}\nflags\t\t: fma avx2\nbugs\t\t:\n\n") * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--package", "no_such_package", "true"],
            "--package no_such_package is neither a package of this Python",
        ),
        (
            ["--package", "no/such.so", "true"],
            "--package no/such.so is neither a package of this Python nor a path",
        ),
        ([], "name a command"),
    ],
)
@here
def test_bad_words_are_refused_in_one_line(words: list[str], said: str, refusal: Refusal) -> None:
    assert said in refusal(main, words)


@pytest.mark.parametrize(
    ("place", "said"), [("sys.platform", "needs Linux"), ("platform.machine", "needs Linux on x86-64")]
)
def test_another_machine_is_refused(place: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (lambda: "aarch64") if place == "platform.machine" else "win32"
    monkeypatch.setattr(f"tools.as_avx2.__main__.{place}", other)
    assert said in str(as_avx2.missing())


def test_an_absent_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.as_avx2.__main__.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("tools.as_avx2.__main__.shutil.which", lambda name: None if name == "cc" else name)
    assert as_avx2.missing() == "needs cc (Debian: binutils, gcc, util-linux)"
