"""The machine's description, from samples of what systems say about themselves."""

import json
import platform

import onnxruntime
import pytest

from vit_edge.runtime.device import machine
from vit_edge.runtime.device.machine import describe_machine, parse_cpuinfo

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_tile amx_int8 avx_vnni

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_tile amx_int8 avx_vnni
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes asimdrdm asimddp
CPU implementer\t: 0x41
"""
MIXED = "flags : avx2 avx_vnni\n\nflags : avx2\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (X86, "Intel(R) Xeon(R) Platinum 8488C", ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")),
        (ARM, "", ("asimd", "asimddp")),
        (MIXED, "", ("avx2",)),
        ("", "", ()),
    ],
)
def test_the_processor_is_read_from_what_linux_says(text: str, name: str, flags: tuple[str, ...]) -> None:
    assert parse_cpuinfo(text) == (name, flags)


def test_an_arm_board_is_known_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/cpuinfo": ARM, "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
    monkeypatch.setattr(machine, "_text", texts.__getitem__)
    assert describe_machine().cpu == "Raspberry Pi 5 Model B Rev 1.0"


def test_a_system_that_says_nothing_still_has_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(machine, "_text", lambda _: "")
    monkeypatch.setattr(platform, "freedesktop_os_release", nothing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "")
    described = describe_machine()
    assert (described.cpu, described.flags) == ("unknown", ())
    assert platform.system() in described.system


def test_this_machine_is_described_without_its_name() -> None:
    described = describe_machine()
    assert described.onnxruntime == onnxruntime.__version__
    assert described.python == platform.python_version()
    assert described.cores >= 1
    text = json.dumps(described.to_json())
    assert platform.node() not in text
