"""The digits model on CPUs other than this one, emulated: x86-64 without VNNI, and 64-bit Arm."""

import json
import platform
import shutil
from pathlib import Path

import pytest

from tools.arm64_parity.__main__ import main as arm64_parity
from tools.arm64_parity.emulator import CORES_TESTED, Job, logits_of, run_here
from tools.arm64_parity.root import default_cache, existing_root, missing
from tools.digits import make_folders
from tools.saturating_model import predict
from tools.saturation_check import EMULATOR, EXACT_FLAGS, LAUNCHER
from vit_edge.cli import main
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.verify.metrics import logit_sqnr_db

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    make_folders(folder)
    return folder


def quantized(digits: Path, target: str) -> Path:
    out = digits / f"{target}.onnx"
    if not out.exists():
        source, images = str(ROOT / "models" / "digits_vit"), str(digits / "calibration")
        words = [
            "quantize",
            source,
            "--calib",
            images,
            "--preset",
            "fast",
            "--target",
            target,
            "-o",
            str(out),
        ]
        assert main(words) == 0
    return out


def test_the_target_for_saturating_cpus_does_not_saturate_and_the_portable_one_does(digits: Path) -> None:
    images = list_images(digits / "test").limited(20).paths
    assert max(predict(quantized(digits, "cpu"), images).saturated.values()) > 0.01
    assert max(predict(quantized(digits, "cpu-x86-avx2"), images).saturated.values()) == 0


@pytest.mark.skipif(
    shutil.which(EMULATOR) is None
    or platform.machine() != "x86_64"
    or not EXACT_FLAGS & set(describe_machine().flags),
    reason=f"needs {EMULATOR} (Debian: qemu-user) on an x86-64 CPU with VNNI, to compare with one without",
)
def test_the_kernels_of_a_cpu_without_vnni_answer_as_predicted(digits: Path) -> None:
    images = list_images(digits / "test").limited(40).paths
    exact, saturating, predicted = {}, {}, {}
    for target in ("cpu", "cpu-x86-avx2"):
        path = quantized(digits, target)
        exact[target] = logits_of(run_here(Job(path, images)))
        saturating[target] = logits_of(run_here(Job(path, images), LAUNCHER))
        predicted[target] = predict(path, images).logits
    narrow, wide = "cpu-x86-avx2", "cpu"
    # 50 dB: integers alike but for values next to the middle of two steps, which float operators round apart
    assert logit_sqnr_db(exact[narrow], saturating[narrow]) > 50
    assert logit_sqnr_db(saturating[wide], predicted[wide]) > 50
    assert logit_sqnr_db(exact[wide], saturating[wide]) < 35
    assert (exact[narrow].argmax(axis=1) == saturating[narrow].argmax(axis=1)).all()


@pytest.mark.skipif(
    missing() is not None or existing_root(default_cache()) is None,
    reason="needs an arm64 root file system: `python -m tools.arm64_parity` sets it up (Debian, as root)",
)
def test_arm_cores_with_and_without_dot_product_give_the_same_predictions(
    digits: Path, tmp_path: Path
) -> None:
    words = ["build", str(ROOT / "models" / "digits_vit"), "--calib", str(digits / "calibration")]
    words += ["--data", str(digits / "test"), "--target", "cpu-arm64", "--max-drop", "2", "--threads", "1"]
    assert main([*words, "--preset", "fast", "-o", str(tmp_path / "bundle")]) == 0
    models = ("onnx/model.onnx", "onnx/model_cpu-arm64.onnx")
    words = [str(tmp_path / "bundle"), "--images", str(digits / "test"), "--count", "40"]
    words += [word for name in models for word in ("--model", name)]
    assert arm64_parity([*words, "-o", str(tmp_path / "figures.json")]) == 0
    (record,) = json.loads((tmp_path / "figures.json").read_text()).values()
    assert set(record["cores"]) == {core.name for core in CORES_TESTED}
    for core in record["cores"].values():
        assert set(core["models"]) == set(models)
        for found in core["models"].values():
            assert found["same_label"]
            assert found["identical_pixels"] == 100
            assert found["agreement"] >= 97.5  # at most one of 40 next to a tie
        assert core["models"]["onnx/model.onnx"]["largest_logit_difference"] < 1e-4
        assert core["models"]["onnx/model_cpu-arm64.onnx"]["largest_logit_difference"] < 0.1
    flags = [core["flags"] for core in record["cores"].values()]
    assert ["asimddp" in each for each in flags] == [False, True]
