"""A folder with an aarch64 userland: Debian's packages, and onnxruntime's own aarch64 wheel beside them.

Mirror and suite are those that apt uses on this machine, the wheels come from where pip is set up to look.
The packages are only unpacked, never configured: Python and the C++ library need no more.
"""

import contextlib
import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.environments import cache_of
from vit_edge.errors import UsageError

PACKAGES = ("python3", "libstdc++6", "libgomp1")
PINNED = ("onnxruntime", "pillow")  # in the versions installed here, for both decide about bits
EMULATOR = "qemu-aarch64-static"
TOOLS = {
    "debootstrap": "debootstrap",
    EMULATOR: "qemu-user-static",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "chroot": "coreutils",
}
OLDEST_GLIBC = 17  # manylinux2014 is 2.17
SITE = Path("opt/site")


def missing() -> str | None:
    """Why a root cannot be set up or entered here; None where it can."""
    lacking = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if lacking:
        return f"needs Debian's {', '.join(lacking)}; run: apt-get install {' '.join(lacking)}"
    if os.geteuid() != 0:
        return "entering a root file system needs the rights of root; run it with sudo"
    return None


def default_cache() -> Path:
    """Where roots are kept."""
    return cache_of("arm64")


def existing_root(cache: Path) -> Path | None:
    """The root for the versions installed here, if it has been set up already."""
    place = cache / _root_name()
    return place if place.is_dir() else None


def ensure_root(cache: Path) -> Path:
    """The root for the versions installed here, set up on first use.

    Raises:
        UsageError: a tool is absent, apt has no Debian mirror, or no wheel fits.
    """
    reason = missing()
    if reason:
        raise UsageError(f"an arm64 root file system {reason}")
    found = existing_root(cache)
    if found is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".root-", dir=cache) as draft:
        root = Path(draft) / "root"
        _unpack_debian(root)
        _install_wheels(root)
        shutil.copy2(str(shutil.which(EMULATOR)), root / "usr/bin" / EMULATOR)
        with contextlib.suppress(FileExistsError):  # another process was as fast
            root.rename(cache / _root_name())
    return cache / _root_name()


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep the root to this process: what it pretends to run on is written into it."""
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python_of(root: Path) -> str:
    """The root's Python, such as `3.11`.

    Raises:
        UsageError: it has none.
    """
    for path in sorted((root / "usr/bin").glob("python3.*")):
        if re.fullmatch(r"python3\.\d+", path.name):
            return path.name.removeprefix("python")
    raise UsageError(f"{root} has no Python: remove the folder and try again")


def _root_name() -> str:
    return "-".join(f"{name}-{importlib.metadata.version(name)}" for name in PINNED)


def _unpack_debian(root: Path) -> None:
    mirror, suite = debian()
    command = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase"]
    run([*command, f"--include={','.join(PACKAGES)}", suite, str(root), mirror])
    for archive in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        run(["dpkg-deb", "-x", str(archive), str(root)])
        archive.unlink()


def debian() -> tuple[str, str]:
    """Mirror and suite of this machine's own apt configuration.

    Raises:
        UsageError: it names no Debian mirror.
    """
    form = "$(ORIGIN)|$(COMPONENT)|$(SUITE)|$(RELEASE)|$(REPO_URI)"
    listed = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in listed.splitlines():
        origin, component, _, release, mirror = line.split("|")
        if (origin, component) == ("Debian", "main") and "-" not in release:
            return mirror, release
    raise UsageError("apt has no Debian mirror in its sources: run apt-get update, or use a Debian machine")


def _install_wheels(root: Path) -> None:
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in PINNED]
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(_glibc(root), OLDEST_GLIBC - 1, -1)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    for platform in (*platforms, "manylinux2014_aarch64"):
        command += ["--platform", platform]
    command += ["--implementation", "cp", "--python-version", python_of(root)]
    run([*command, "--target", str(root / SITE), *wanted])


def _glibc(root: Path) -> int:
    """36 of glibc 2.36, from the library's own banner."""
    library = (root / "lib/aarch64-linux-gnu/libc.so.6").read_bytes()
    banner = re.search(rb"release version 2\.(\d+)", library)
    return int(banner[1]) if banner else OLDEST_GLIBC


def run(command: Sequence[str]) -> str:
    """Standard output of a command.

    Raises:
        UsageError: it failed; with the last line of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        raise UsageError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout
