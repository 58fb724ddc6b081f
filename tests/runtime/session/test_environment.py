"""Two onnxruntime wheels in one environment are found and named; what is no such wheel is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from vit_edge.errors import ProviderError
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session import wheels as environment
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.session.wheels import Wheel, describe_clash, onnxruntime_wheels, with_clash

STOCK = Wheel("onnxruntime", "1.32.0")
GPU = Wheel("onnxruntime-gpu", "1.32.0")


def install(folder: Path, name: str, version: str, *files: str, record: bool = True) -> None:
    """The metadata that pip leaves of a wheel."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if record:
        (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    else:
        (info / "top_level.txt").write_text("\n".join({file.split("/")[0] for file in files}) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole search path of distributions."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_one_wheel_is_no_clash(site: Path) -> None:
    install(site, "onnxruntime", "1.32.0", "onnxruntime/__init__.py", "onnxruntime/capi/x.so")
    assert onnxruntime_wheels() == (STOCK,)
    assert describe_clash(onnxruntime_wheels()) is None


@pytest.mark.parametrize("record", [True, False], ids=["RECORD", "top_level.txt"])
@pytest.mark.parametrize(
    "other", ["onnxruntime-gpu", "onnxruntime_openvino", "onnxruntime.directml", "ort-nightly"]
)
def test_a_second_wheel_of_the_same_package_is_named_with_the_mend(
    site: Path, other: str, record: bool
) -> None:
    install(site, "onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    install(site, other, "1.31.0", "onnxruntime/__init__.py", record=record)
    name = other.replace("_", "-").replace(".", "-")
    clash = describe_clash(onnxruntime_wheels())
    assert clash is not None
    assert "onnxruntime 1.32.0" in clash
    assert f"{name} 1.31.0" in clash
    assert f"pip install {name}" in clash
    assert clash.count("pip uninstall -y") == 1


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("onnxruntime-qnn", "onnxruntime_qnn/__init__.py"),
        ("onnxruntime-extensions", "onnxruntime_extensions/__init__.py"),
        ("onnxruntime-ep-openvino", "onnxruntime_ep_openvino/__init__.py"),
        ("my-onnxruntime-tools", "tools/onnxruntime/__init__.py"),
    ],
)
def test_what_owns_another_package_is_no_second_wheel(site: Path, name: str, file: str) -> None:
    install(site, "onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    install(site, name, "2.0", file)
    assert onnxruntime_wheels() == (STOCK,)


def test_the_same_wheel_twice_on_the_path_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("user", "system"):
        (tmp_path / folder).mkdir()
        install(tmp_path / folder, "onnxruntime", f"1.{len(folder)}", "onnxruntime/__init__.py")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "user"), str(tmp_path / "system")])
    assert onnxruntime_wheels() == (Wheel("onnxruntime", "1.4"),)


@pytest.mark.parametrize("text", ["", "no metadata at all", "Name: \n"])
def test_broken_metadata_of_others_is_passed_over(site: Path, text: str) -> None:
    (site / "broken-1.0.dist-info").mkdir()
    (site / "broken-1.0.dist-info" / "METADATA").write_text(text)
    install(site, "onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    assert onnxruntime_wheels() == (STOCK,)


@pytest.mark.usefixtures("site")
def test_no_wheel_at_all_is_no_clash() -> None:
    assert onnxruntime_wheels() == ()
    assert describe_clash(()) is None


def test_a_provider_error_says_that_two_wheels_clash(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "wheel_clash", lambda: describe_clash((STOCK, GPU)))
    with pytest.raises(ProviderError, match=r"'warp'.*2 onnxruntime wheels.*pip uninstall -y") as caught:
        Session(read_model(data / "dynamic.onnx"), SessionSettings(provider="warp"))
    assert "\n" not in str(caught.value)


def test_without_a_clash_an_error_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "wheel_clash", lambda: None)
    assert with_clash("it failed") == "it failed"


def test_importing_and_classifying_does_not_search_the_environment(data: Path) -> None:
    code = (
        "import importlib.metadata as m, sys, numpy\n"
        "def never(*_, **__): raise AssertionError('searched')\n"
        "m.distributions = never\n"
        "from vit_edge import Classifier\n"
        f"print(len(Classifier({str(data / 'dynamic.onnx')!r})(numpy.zeros((9, 9, 3), numpy.uint8))))\n"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, "3"), result.stderr
