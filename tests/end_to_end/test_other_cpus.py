"""The digits model on CPUs other than this one, emulated: x86-64 without VNNI, and 64-bit Arm."""

import json
from pathlib import Path

import onnx
import pytest

from tools.arm64_parity.__main__ import main as arm64_parity
from tools.arm64_parity.emulator import CORES_TESTED, Job, logits_of, run_here
from tools.arm64_parity.root import default_cache, existing_root, missing
from tools.digits import make_folders
from tools.saturating_model import predict
from tools.saturation_check import EMULATOR, exact_logits, has_saturating_kernels, saturating_logits
from vit_edge.cli import main
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.model.metadata import SESSION_OPTIONS_KEY
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


def test_the_portable_file_saturates_next_to_nowhere_and_one_of_eight_bits_does(digits: Path) -> None:
    """Constant weights leave room for every sum; in attentions rare saturation is weighed with rounding."""
    images = list_images(digits / "test").limited(20).paths
    assert max(predict(quantized(digits, "cpu-x86-vnni"), images).saturated.values()) > 0.01
    portable = quantized(digits, "cpu")
    found = predict(portable, images)
    assert max(share for name, share in found.saturated.items() if ".attention." not in name) < 1e-4
    assert max(found.saturated.values()) < 1e-3
    assert logit_sqnr_db(exact_logits(portable, images), found.logits) > 40  # eight bits are 40 from float


@pytest.mark.skipif(
    not has_saturating_kernels(),
    reason=f"needs an x86-64 CPU without VNNI, or {EMULATOR} (Debian: qemu-user) on one with it",
)
def test_kernels_that_saturate_answer_as_predicted_and_the_portable_file_the_same_in_both(
    digits: Path,
) -> None:
    images = list_images(digits / "test").limited(40).paths
    exact, saturating, predicted = {}, {}, {}
    safe, wide = "cpu", "cpu-x86-vnni"
    for target in (safe, wide):
        path = without_options(quantized(digits, target))
        exact[target] = exact_logits(path, images)
        saturating[target] = saturating_logits(path, images)
        predicted[target] = predict(path, images).logits
    # 50 dB: integers alike but for values next to the middle of two steps, which float operators round apart
    assert logit_sqnr_db(exact[safe], saturating[safe]) > 40
    assert logit_sqnr_db(saturating[wide], predicted[wide]) > 50
    assert logit_sqnr_db(exact[wide], saturating[wide]) < 35
    assert (exact[safe].argmax(axis=1) == saturating[safe].argmax(axis=1)).all()


def test_a_file_of_eight_bits_asks_for_exact_arithmetic_itself(digits: Path) -> None:
    """On a CPU that saturates the runtime's answers are the exact ones, only slower."""
    images = list_images(digits / "test").limited(20).paths
    path = quantized(digits, "cpu-x86-vnni")
    assert logit_sqnr_db(exact_logits(path, images), logits_of(run_here(Job(path, images)))) > 50


def without_options(path: Path) -> Path:
    """The same file, which leaves the choice of kernels to the CPU."""
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != SESSION_OPTIONS_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = SESSION_OPTIONS_KEY, json.dumps(SESSION_OPTIONS)
    bare = path.with_name(f"bare_{path.name}")
    onnx.save(model, bare)
    return bare


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
