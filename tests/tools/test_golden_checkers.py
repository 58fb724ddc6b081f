"""The three programs that hold a device to a bundle's golden cases, each run as a stranger would run it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.package.digits import FLOAT, INT8, Digits
from tools.engines.catalogue import ENGINES, WORKERS, default_cache
from vit_edge.golden import TENSORS
from vit_edge.runtime.device.machine import may_saturate

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "golden"
CACHE = default_cache()  # now: while tests run, the user's cache is a folder of theirs
KINDS = ("exact", "saturating") if may_saturate() else ("any",)
HERE = KINDS[-1]

Checker = Callable[[Path, str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bundle(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the programs read of a bundle: a float and an INT8 model of digits, and the golden cases.

    A copy, as programs are built beside them.
    """
    return shutil.copytree(digits.bundle, tmp_path_factory.mktemp("golden") / "bundle")


def started(*words: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | environment
    return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def python(bundle: Path, arithmetic: str) -> "subprocess.CompletedProcess[str]":
    return started(sys.executable, "-I", str(PROGRAMS / "check.py"), str(bundle), arithmetic)


def javascript(package: str) -> Checker:
    def check(bundle: Path, arithmetic: str) -> "subprocess.CompletedProcess[str]":
        engine = next(each for each in ENGINES if each.node)
        reason = engine.missing(CACHE)
        if reason is not None:
            pytest.skip(reason)
        words = ["node", str(PROGRAMS / "check.mjs"), str(bundle), arithmetic, package]
        return started(*words, cwd=engine.place(CACHE))

    return check


def c(bundle: Path, arithmetic: str) -> "subprocess.CompletedProcess[str]":
    """Built against the header of a release where there is one, else against the part of it that we hold."""
    compiler = shutil.which("cc")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if compiler is None or not libraries:
        pytest.skip("needs a C compiler, and a wheel of onnxruntime with libonnxruntime.so")
    place = bundle / "built"
    if not (place / "check").exists():
        place.mkdir(exist_ok=True)
        (place / "libonnxruntime.so").symlink_to(libraries[0])
        (place / "libonnxruntime.so.1").symlink_to(libraries[0])
        words = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", str(PROGRAMS / "check.c")]
        words += ["-idirafter", str(WORKERS / "abi"), "-o", str(place / "check")]
        words += ["-L", str(place), "-lonnxruntime", "-lm"]
        done = started(*words)
        assert done.returncode == 0, done.stderr
    return started(str(place / "check"), str(bundle), arithmetic, LD_LIBRARY_PATH=str(place))


CHECKERS = [
    pytest.param(python, HERE, id="Python"),
    pytest.param(javascript("onnxruntime-node"), HERE, id="onnxruntime-node"),
    pytest.param(javascript("onnxruntime-web"), KINDS[0], id="onnxruntime-web"),
    pytest.param(c, HERE, id="C"),
]


def cases_of(bundle: Path) -> list[dict[str, object]]:
    raw: list[dict[str, object]] = json.loads((bundle / TENSORS).read_text())["cases"]
    return raw


def test_the_cases_are_of_every_arithmetic_of_this_machine(bundle: Path) -> None:
    found = {(case["model"], case["arithmetic"]) for case in cases_of(bundle)}
    assert found == {(FLOAT, "any"), *((INT8, kind) for kind in KINDS)}


def test_every_case_stands_on_a_line_of_its_own(bundle: Path) -> None:
    lines = (bundle / TENSORS).read_text().splitlines()[1:-1]
    assert [json.loads(line.removesuffix(",")) for line in lines] == cases_of(bundle)


@pytest.mark.parametrize(("check", "arithmetic"), CHECKERS)
def test_a_good_bundle_passes(bundle: Path, check: Checker, arithmetic: str) -> None:
    done = check(bundle, arithmetic)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["ok", FLOAT]] * 2 + [["ok", INT8]] * 2


@pytest.mark.parametrize("value", [9.0, float("nan")])
@pytest.mark.parametrize(("check", "arithmetic"), CHECKERS)
def test_one_wrong_value_fails(
    bundle: Path, tmp_path: Path, check: Checker, arithmetic: str, value: float
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", symlinks=True)
    path = copy / "golden/model.logits.any.1.bin"
    values = np.fromfile(path, "<f4")
    values[3] += value
    values.tofile(path)
    done = check(copy, arithmetic)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok", "FAIL", "ok", "ok"]


@pytest.mark.parametrize(("check", "arithmetic"), CHECKERS)
def test_an_output_of_another_size_fails(
    bundle: Path, tmp_path: Path, check: Checker, arithmetic: str
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", symlinks=True)
    text = (copy / TENSORS).read_text().replace('"output_shape": [1, 10]', '"output_shape": [1, 9]')
    (copy / TENSORS).write_text(text)
    for path in (copy / "golden").glob("*.logits.*.bin"):
        np.fromfile(path, "<f4")[:9].tofile(path)
    done = check(copy, arithmetic)
    assert done.returncode == 1
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"FAIL"}


def test_the_ort_format_of_fixed_style_keeps_the_answers(bundle: Path, tmp_path: Path) -> None:
    """Made with onnxruntime's own converter; its runtime optimisation style leaves QDQ unfused, and slow."""
    words = ["-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(bundle / INT8)]
    done = started(sys.executable, *words, "--optimization_style", "Fixed", "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [made] = tmp_path.glob("*.ort")
    for case in cases_of(bundle):
        if case["model"] == INT8 and case["arithmetic"] == HERE:
            given = np.fromfile(bundle / str(case["input_file"]), "<f4").reshape(1, 3, 32, 32)
            session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
            [found] = session.run(None, {str(case["input"]): given})
            expected = np.fromfile(bundle / str(case["output_file"]), "<f4")
            np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("check", "arithmetic"), CHECKERS)
def test_a_file_without_cases_is_no_pass(
    bundle: Path, tmp_path: Path, check: Checker, arithmetic: str
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", symlinks=True)
    (copy / TENSORS).write_text('{"cases": [\n]}\n')
    assert check(copy, arithmetic).returncode == 1
