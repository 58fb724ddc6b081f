"""Builds the one shared library of the wheel: each instruction set is a compilation of the same source."""

import os
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SOURCES = Path("src")
LIBRARY = "libvit_edge_kernels.so"
# gcc 12 warns of "uninitialized" values in its own header of AVX512 intrinsics; clang does not know them all
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
QUIET = ["-Wno-unknown-warning-option", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
AVX2 = ["-mavx2", "-mfma"]
UNITS = {
    "ops": [],
    "choose": [],
    "avx2": AVX2,
    "avxvnni": [*AVX2, "-mavxvnni"],
    "avx512": [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"],
}


def compile_library(folder: Path) -> Path:
    """The shared library, in a folder; CXX names another compiler, CXXFLAGS adds to the flags."""
    compiler, more = os.environ.get("CXX", "c++"), os.environ.get("CXXFLAGS", "").split()
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for unit, instructions in UNITS.items():
        objects.append(str(folder / f"{unit}.o"))
        words = [
            compiler,
            *FLAGS,
            *QUIET,
            *instructions,
            *more,
            "-c",
            str(SOURCES / f"{unit}.cpp"),
            "-o",
            objects[-1],
        ]
        subprocess.run(words, check=True)
    library = folder / LIBRARY
    static = [] if any("sanitize" in word for word in more) else ["-static-libstdc++", "-static-libgcc", "-s"]
    subprocess.run([compiler, "-shared", *static, *more, *objects, "-o", str(library)], check=True)
    for made in objects:
        Path(made).unlink()
    return library


class Build(build_py):
    """Adds the library to the package."""

    def run(self) -> None:
        """Copy the package, and compile beside it."""
        super().run()
        compile_library(Path(self.build_lib) / "vit_edge_kernels")


class Wheel(bdist_wheel):
    """A wheel for one platform and any Python: the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """py3-none and the platform."""
        return "py3", "none", super().get_tag()[2]


class Binary(Distribution):
    """Says that there is machine code in the wheel."""

    def has_ext_modules(self) -> bool:
        """Always."""
        return True


if __name__ == "__main__":
    setup(cmdclass={"build_py": Build, "bdist_wheel": Wheel}, distclass=Binary)
