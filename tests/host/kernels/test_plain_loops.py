"""The kernels against plain loops, in C++ and under the sanitizers, without Python or onnxruntime."""

import os
import platform
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[3] / "kernels"
COMPILER = shutil.which("c++") or ""
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.skipif(
    not COMPILER or platform.machine().lower() not in ("x86_64", "amd64"),
    reason="needs a C++ compiler and an x86-64 CPU",
)
def test_every_kernel_gives_what_plain_loops_give(tmp_path: Path) -> None:
    setup = runpy.run_path(str(KERNELS / "setup.py"))
    units = {name: flags for name, flags in setup["UNITS"].items() if name != "ops"}
    sources = {name: (KERNELS / "src" / f"{name}.cpp", flags) for name, flags in units.items()}
    sources["check"] = KERNELS / "tests" / "check.cpp", []
    flags = [flag for flag in setup["FLAGS"] if flag != "-O3"] + setup["QUIET"] + SANITIZERS
    compiling = [
        subprocess.Popen([COMPILER, *flags, *more, "-c", str(source), "-o", str(tmp_path / f"{name}.o")])
        for name, (source, more) in sources.items()
    ]
    assert [process.wait() for process in compiling] == [0] * len(sources)
    program = tmp_path / "check"
    subprocess.run([COMPILER, *SANITIZERS, *map(str, tmp_path.glob("*.o")), "-o", str(program)], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "VIT_EDGE_KERNELS"}
    done = subprocess.run([str(program), "60"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "60 rounds" in done.stdout
