"""IREE, which compiles a model for this CPU before it runs it, on one thread."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import iree.runtime
import numpy as np
from common import Run, serve

PROGRAMS = Path(sys.executable).parent
TARGET = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
)


def started(program: str, *words: str) -> None:
    """Raise what a program of IREE says where it fails; it may leave no file and say why on stderr alone."""
    done = subprocess.run([PROGRAMS / program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or [f"status {done.returncode}"]
        raise RuntimeError(f"{program}: {said[0].split('error: ')[-1]}")


def load(path: Path, shape: tuple[int, ...], kind: str, options: dict[str, str]) -> Run:
    del shape, kind, options
    imported, compiled = str(path.with_suffix(".mlir")), str(path.with_suffix(".vmfb"))
    started("iree-import-onnx", str(path), "-o", imported)
    started("iree-compile", imported, *TARGET, "-o", compiled)
    module = iree.runtime.load_vm_flatbuffer_file(compiled, driver="local-sync")
    [name] = [
        each for each in module.vm_module.function_names if "$" not in each and not each.startswith("__")
    ]

    def run(image: np.ndarray) -> np.ndarray:
        return np.array(module[name](image).to_host())  # its own memory is used again

    return run


if __name__ == "__main__":
    serve(load, f"IREE {version('iree-base-compiler')}")
