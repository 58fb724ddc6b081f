"""Copies of shared libraries in which `cpuid` traps, so that something else can answer it."""

import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.environments import cache_of
from vit_edge.errors import UsageError

CPUID, TRAP = b"\x0f\xa2", b"\xf4\x90"  # the trap: hlt; nop
_LOAD = 1  # PT_LOAD


def default_cache() -> Path:
    """Where the copies are kept."""
    return cache_of("as-avx2")


def shared_libraries(places: Iterable[Path]) -> list[Path]:
    """Every shared library of some files and folders, links left out."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [file for file in files if re.search(r"\.so(\.\d+)*$", file.name) and not file.is_symlink()]


def trapping(library: Path, cache: Path) -> Path | None:
    """A copy in which every `cpuid` traps; None where the library has none.

    Raises:
        UsageError: it cannot be disassembled.
    """
    data = bytearray(library.read_bytes())
    copy = cache / f"{hashlib.sha256(data).hexdigest()}.so"
    none = copy.with_suffix(".none")
    if copy.exists():
        return copy
    if CPUID not in data or none.exists():
        return None
    cache.mkdir(parents=True, exist_ok=True)
    addresses = cpuid_addresses(library)
    segments = loaded(bytes(data), library)
    for address in addresses:
        place = next(
            offset + address - start for start, offset, size in segments if 0 <= address - start < size
        )
        if data[place : place + 2] != CPUID:
            raise UsageError(f"{library} has no cpuid at {address:#x}, where objdump sees one")
        data[place : place + 2] = TRAP
    if not addresses:
        none.touch()
        return None
    partial = copy.with_suffix(f".{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(copy)
    return copy


def cpuid_addresses(library: Path) -> list[int]:
    """Virtual addresses of the `cpuid` instructions.

    Raises:
        UsageError: objdump is not there, or does not read the file.
    """
    command = ["objdump", "-d", "--no-show-raw-insn", str(library)]
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            lines = process.stdout or ()
            found = [int(line.split(":", 1)[0], 16) for line in lines if line.rstrip().endswith("\tcpuid")]
    except FileNotFoundError:
        raise UsageError("objdump is not there (Debian: binutils)") from None
    if process.returncode:
        raise UsageError(f"objdump does not read {library}")
    return found


def loaded(data: bytes, library: Path) -> Sequence[tuple[int, int, int]]:
    """(virtual address, offset in the file, size) of what is loaded of a 64-bit ELF file.

    Raises:
        UsageError: it is none.
    """
    if data[:5] != b"\x7fELF\x02":
        raise UsageError(f"{library} is no 64-bit ELF file")
    (first,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, first + index * size) for index in range(count)]
    return [(each[3], each[2], each[5]) for each in headers if each[0] == _LOAD]
