"""Bookkeeping and refusals of the arm64 comparison; the emulated run itself is an end-to-end test."""

import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tools.arm64_parity import root as root_module
from tools.arm64_parity.__main__ import figures, main, merge
from tools.arm64_parity.emulator import CORES_TESTED, Job, RunFailedError, logits_of, pretend, run_here
from tools.arm64_parity.root import PINNED, ensure_root, existing_root, missing, python_of
from vit_edge.errors import UsageError

DATA = Path(__file__).parent.parent / "data"


def answers(*rows: list[float], label: str = "a", pixels: str = "0") -> dict[str, Any]:
    return {
        "logits": [[value.hex() for value in row] for row in rows],
        "pixels": [pixels] * len(rows),
        "label": label,
    }


def test_figures_count_predictions_bits_and_pixels_apart() -> None:
    here = answers([1.0, 2.0], [3.0, 0.0], [0.0, 4.0], [5.0, 1.0])
    there = answers([1.0, 2.0], [3.0, 0.5], [4.5, 4.0], [5.0, 1.0], pixels="1")
    assert figures(here, there) == {
        "agreement": 75.0,
        "identical_logits": 50.0,
        "identical_pixels": 0.0,
        "same_label": True,
        "largest_logit_difference": 4.5,
        "largest_logit": 5.0,
    }


def test_another_label_is_told() -> None:
    assert not figures(answers([1.0]), answers([1.0], label="b"))["same_label"]


def test_logits_come_back_bit_for_bit() -> None:
    value = 0.1 + 2.0**-50
    assert logits_of(answers([value, -0.0]))[0].tolist() == [value, -0.0]


def test_records_of_other_bundles_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    for source, record in (("first", {"images": 1}), ("second", {"images": 2}), ("first", {"images": 3})):
        merge(path, source, record)
    assert json.loads(path.read_text()) == {"first": {"images": 3}, "second": {"images": 2}}


@pytest.mark.parametrize("content", ["no json", "[1]"])
def test_a_file_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"figures\.json"):
        merge(path, "source", {})
    assert path.read_text() == content


def test_a_bundle_that_is_none_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--images", str(tmp_path), "-o", str(tmp_path / "out.json")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert str(tmp_path) in said[0]


def test_without_the_tools_the_package_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "debootstrap" else "/bin/x")
    with pytest.raises(UsageError, match="apt-get install debootstrap"):
        ensure_root(tmp_path)


def test_without_the_rights_of_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/x")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo" in (missing() or "")


def test_a_machine_without_a_debian_mirror_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "Ubuntu|main|noble|noble|http://mirror/\nDebian|main|x|x-security|http://mirror/\n"
    monkeypatch.setattr(root_module, "run", lambda _: listed)
    with pytest.raises(UsageError, match="no Debian mirror"):
        root_module.debian()


def test_mirror_and_suite_are_those_of_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "Debian|main|s|some-updates|http://one/\nDebian|main|s|some|http://two/\n"
    monkeypatch.setattr(root_module, "run", lambda _: listed)
    assert root_module.debian() == ("http://two/", "some")


def test_a_command_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(UsageError, match="status 3: the reason"):
        root_module.run(["sh", "-c", "echo first >&2; echo the reason >&2; exit 3"])


def test_a_root_belongs_to_the_installed_versions(tmp_path: Path) -> None:
    assert existing_root(tmp_path) is None
    name = "-".join(f"{package}-{importlib.metadata.version(package)}" for package in PINNED)
    (tmp_path / name).mkdir()
    assert existing_root(tmp_path) == tmp_path / name


def test_the_python_of_a_root_is_found_by_its_version(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Python"):
        python_of(tmp_path)
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("python3", "python3.11", "python3.11-config"):
        (tmp_path / "usr/bin" / name).touch()
    assert python_of(tmp_path) == "3.11"


@pytest.mark.parametrize("core", CORES_TESTED, ids=lambda core: core.name)
def test_a_pretended_core_says_dot_product_only_where_it_has_it(tmp_path: Path, core: Any) -> None:
    pretend(tmp_path, core)
    text = (tmp_path / "proc/cpuinfo").read_text()
    assert ("asimddp" in text.split()) == ("with dot product" in core.example)
    assert f"{core.part:#x}" in text
    assert (tmp_path / "sys/devices/system/cpu/present").read_text() == "0-1\n"


def test_the_script_answers_with_the_runtime_of_this_machine(tmp_path: Path) -> None:
    from PIL import Image

    image = tmp_path / "one.png"
    Image.new("RGB", (12, 14), (200, 30, 90)).save(image)
    found = run_here(Job(DATA / "dynamic.onnx", [image]))
    assert logits_of(found).shape[0] == 1
    assert found["machine"]["onnxruntime"] == importlib.metadata.version("onnxruntime")


def test_a_script_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    image = tmp_path / "one.png"
    image.write_bytes(b"no image")
    with pytest.raises(RunFailedError, match="ImageError"):
        run_here(Job(DATA / "dynamic.onnx", [image]))
