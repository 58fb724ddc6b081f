"""The self-test passes a good bundle, and finds each thing that makes a device answer otherwise."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import vit_edge
from vit_edge import SelfTest, plain, selftest
from vit_edge.bundle import MANIFEST, FileEntry, Manifest, Role, SourceRecord, read_bundle, write_bundle
from vit_edge.cli import main
from vit_edge.errors import BundleError, ProviderError
from vit_edge.golden import EXPECTED, MAP, OUTPUTS, GoldenCase, golden_bytes, read_golden
from vit_edge.manifest import LatencyRecord
from vit_edge.runtime.device.machine import describe_machine, may_saturate
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.selftest import answers
from vit_edge.runtime.selftest import run as running
from vit_edge.runtime.selftest.check import Check, Report
from vit_edge.runtime.selftest.speed import coverage
from vit_edge.runtime.session.session import Placement, Session, SessionSettings
from vit_edge.runtime.session.wheels import Wheel
from vit_edge.source_parity import ProofState, SourceParity, not_proven
from vit_edge.spec import (
    CLS_EMBEDDING,
    POOLED_EMBEDDING,
    Arithmetic,
    Interpolation,
    OutputKind,
    PreprocessSpec,
    ResizeMode,
)

Output = pytest.CaptureFixture[str]

SPEC = PreprocessSpec(
    8, 8, ResizeMode.SHORT_SIDE, (10, 10), Interpolation.BICUBIC, (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
)
FLOAT, QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
EMBEDDER = "onnx/embedder_quantized.onnx"
ROLES = {
    FLOAT: Role.FLOAT,
    QUANTIZED: Role.QUANTIZED,
    EMBEDDER: Role.EMBEDDER,
    "config.json": Role.CONFIG,
}
QUICK = Rounds(at_least=3, seconds=0)
TOLERANCE = 1e-3
CPU = "CPUExecutionProvider"


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def latency_record(min_ms: float = 1000.0) -> LatencyRecord:
    machine = describe_machine()
    return LatencyRecord(
        path=QUANTIZED,
        providers=(CPU,),
        threads=1,
        batch=1,
        min_ms=min_ms,
        median_ms=1000.0,
        p95_ms=1000.0,
        peak_rss_mb=None,
        size_mb=1.0,
        ratio_to_float=1.0,
        timed_on_its_device=True,
        machine=machine.cpu,
        environment=machine,
    )


def changed(**changes: Any) -> LatencyRecord:
    """What a very fast machine of the same kind records, but for the changes."""
    return dataclasses.replace(latency_record(1e-6), **changes)


def make(folder: Path, files: dict[str, bytes], **changes: Any) -> Path:
    manifest = Manifest(
        files={name: FileEntry.of(data, ROLES.get(name, Role.GOLDEN)) for name, data in files.items()},
        default_model=QUANTIZED,
        preprocess=SPEC,
        source=SourceRecord("example/vit", "0" * 64),
        tools={},
        latency=(latency_record(),),
        providers={CPU: 1.0},
    )
    return write_bundle(folder, files, dataclasses.replace(manifest, **changes)).path


@pytest.fixture
def files(data: Path) -> dict[str, bytes]:
    """Two models, two images and what each model gives for each."""
    models = {FLOAT: data / "dynamic.onnx", QUANTIZED: data / "pixels.onnx"}
    pixels = np.random.default_rng(5).integers(0, 256, (2, 8, 8, 3), np.uint8)
    cases = [
        GoldenCase(f"golden/{index}.png", name, tuple(map(float, row)), TOLERANCE)
        for name, path in models.items()
        for index, row in enumerate(Session(read_model(path)).run(pixels))
    ]
    images = {f"golden/{index}.png": png(image) for index, image in enumerate(pixels)}
    return {
        **{name: path.read_bytes() for name, path in models.items()},
        **images,
        "config.json": b"{}",
        EXPECTED: golden_bytes(cases),
    }


@pytest.fixture
def bundle(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return make(tmp_path / "bundle", files)


@pytest.mark.parametrize(
    ("record", "passed"),
    [
        (SourceParity(ProofState.PROVEN, "the same for 32 images", "transformers"), True),
        (SourceParity(ProofState.DIFFERS, "two differ in crop", "transformers"), False),
        (not_proven("an ONNX file has no pipeline"), None),
    ],
)
def test_the_proof_from_the_source_is_shown_in_every_state(
    record: SourceParity, passed: bool | None, tmp_path: Path, files: dict[str, bytes]
) -> None:
    check = by_name(run(make(tmp_path / "bundle", files, source_parity=record)))["source to float"]
    assert check.passed is passed
    assert check.found == str(record)
    assert (check.mend is not None) is (passed is False)


def run(bundle: Path, provider: str = "cpu", models: Sequence[str] = ()) -> SelfTest:
    return selftest(bundle, provider, models, QUICK)


def by_name(result: SelfTest) -> dict[str, Check]:
    return {check.name: check for check in result.checks}


def failed(result: SelfTest) -> list[str]:
    return [check.name for check in result.checks if check.passed is False]


def test_a_good_bundle_passes_every_check(bundle: Path) -> None:
    result = run(bundle)
    assert result.passed
    assert {check.name: check.passed for check in result.checks} == {
        "files": True,
        "source to float": None,
        "onnxruntime": True,
        "integer products": True,
        f"answers of {FLOAT}": True,
        f"answers of {QUANTIZED}": True,
        "provider": True,
        "latency": True,
    }
    assert result.bundle == bundle
    assert result.machine == describe_machine()


def test_the_library_call_is_public() -> None:
    assert vit_edge.selftest is selftest
    assert vit_edge.SelfTest is SelfTest


def test_the_report_has_figures_as_numbers_and_is_read_again(bundle: Path, tmp_path: Path) -> None:
    result = run(bundle)
    written = tmp_path / "report.json"
    written.write_text(json.dumps(result.to_json()))
    report = result.report
    assert plain.read(Report, json.loads(written.read_text()), "the report") == report
    assert (report.bundle, report.manifest_sha256) == (bundle.name, read_bundle(bundle).sha256)
    assert report.arithmetic in set(Arithmetic)
    assert report.measured is not None
    assert report.measured.model == QUANTIZED
    assert report.measured.provider == CPU
    assert 0 < report.measured.min_ms <= report.measured.median_ms
    assert report.measured.recorded_min_ms == 1000.0
    assert f"at best {report.measured.min_ms:.2f} ms" in by_name(result)["latency"].found


def test_a_default_model_that_was_not_asked_for_is_not_timed(bundle: Path) -> None:
    assert run(bundle, models=[FLOAT]).measured is None


@pytest.mark.parametrize("name", [FLOAT, "config.json", "golden/1.png"])
@pytest.mark.parametrize("damage", ["changed", "missing", "link"])
def test_a_damaged_file_fails_and_no_model_runs(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "changed":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "link":
        (bundle.parent / "outside").write_bytes(data)
        path.symlink_to(bundle.parent / "outside")
    result = run(bundle)
    assert failed(result) == ["files"]
    assert name in result.checks[0].found
    assert result.checks[0].found.startswith("1 of 6:")
    assert result.checks[0].mend == "fetch the bundle again"
    assert not any(check.name.startswith("answers") for check in result.checks)


def test_every_damaged_file_is_counted(bundle: Path) -> None:
    for name in (FLOAT, "config.json"):
        (bundle / name).write_bytes(b"")
    assert run(bundle).checks[0].found.startswith("2 of 6:")


def test_a_model_that_answers_otherwise_fails_though_its_hash_is_right(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    """One weight of the float model, the head's bias, is off by one; the manifest knows the damaged file."""
    bias = np.random.default_rng(7)
    bias.normal(0, 0.3, (6, 3, 4, 4))
    bias.normal(0, 1, (3, 6))
    right = bias.normal(0, 1, 3).astype(np.float32)
    damaged = files[FLOAT].replace(right.tobytes(), (right + np.float32(1)).tobytes())
    assert damaged != files[FLOAT]
    result = run(make(tmp_path / "bundle", files | {FLOAT: damaged}))
    assert failed(result) == [f"answers of {FLOAT}"]
    check = by_name(result)[f"answers of {FLOAT}"]
    assert "off by at most 1 of 0.001 allowed" in check.found
    assert check.mend is not None


@pytest.mark.parametrize(
    ("shift", "passes"), [(0.0, True), (0.9 * TOLERANCE, True), (1.2 * TOLERANCE, False), (-5.0, False)]
)
def test_golden_answers_are_held_to_their_tolerance(
    tmp_path: Path, files: dict[str, bytes], shift: float, passes: bool
) -> None:
    raw = json.loads(files[EXPECTED])
    raw[0]["logits"][1] += shift
    result = run(make(tmp_path / "bundle", files | {EXPECTED: json.dumps(raw).encode()}))
    assert result.passed is passes
    assert failed(result) == ([] if passes else [f"answers of {raw[0]['model']}"])


def test_golden_answers_of_another_number_of_classes_fail(tmp_path: Path, files: dict[str, bytes]) -> None:
    raw = json.loads(files[EXPECTED])
    raw[0]["logits"].append(0.0)
    result = run(make(tmp_path / "bundle", files | {EXPECTED: json.dumps(raw).encode()}))
    assert failed(result) == [f"answers of {FLOAT}"]
    assert "3 logits where 4 are recorded" in by_name(result)[f"answers of {FLOAT}"].found


def with_embedder(files: dict[str, bytes], data: Path, output: str, shift: float = 0.0) -> dict[str, bytes]:
    """The files with an embedder, and what it gives for one image, of which one value is moved."""
    model, pixels = read_model(data / "embedder.onnx"), np.full((8, 8, 3), 77, np.uint8)
    values = Session(model).outputs(pixels[None])[output][0].copy()
    values[2] += shift
    case = GoldenCase("golden/0.png", EMBEDDER, tuple(map(float, values)), TOLERANCE, output)
    return {
        "config.json": files["config.json"],
        QUANTIZED: files[QUANTIZED],
        EMBEDDER: model.data,
        "golden/0.png": png(pixels),
        EXPECTED: golden_bytes([case]),
    }


@pytest.mark.parametrize("output", [CLS_EMBEDDING, POOLED_EMBEDDING])
@pytest.mark.parametrize(
    ("shift", "passes"), [(0.0, True), (0.9 * TOLERANCE, True), (1.2 * TOLERANCE, False), (-5.0, False)]
)
def test_embeddings_are_held_to_their_tolerance(
    tmp_path: Path, files: dict[str, bytes], data: Path, output: str, shift: float, passes: bool
) -> None:
    check = by_name(run(make(tmp_path / "bundle", with_embedder(files, data, output, shift))))
    found = check[f"answers of {EMBEDDER}"]
    assert found.passed is passes
    assert f"1 images, {output} off by at most" in found.found


def test_values_of_an_output_that_the_model_lacks_fail(
    tmp_path: Path, files: dict[str, bytes], data: Path
) -> None:
    made = with_embedder(files, data, "pooled_embedding")
    made[EXPECTED] = made[EXPECTED].replace(b"pooled_embedding", b"logits")
    check = by_name(run(make(tmp_path / "bundle", made)))[f"answers of {EMBEDDER}"]
    assert check.passed is False
    assert "gives no logits, of which values are recorded" in check.found


def test_what_can_be_recorded_are_outputs_of_a_model_file(data: Path) -> None:
    models = [read_model(data / name) for name in ("dynamic.onnx", "embedder.onnx")]
    models.append(dataclasses.replace(models[0], output=OutputKind.EMBEDDING))
    assert set(OUTPUTS) - {MAP} == {name for model in models for name in model.outputs} - {"patch_features"}


@pytest.mark.parametrize(
    ("found", "model", "word"),
    [
        (Arithmetic.SATURATING, QUANTIZED, "saturate"),
        (Arithmetic.EXACT, QUANTIZED, "computes something else"),
        (Arithmetic.SATURATING, FLOAT, "computes something else"),
        (None, QUANTIZED, "computes something else"),
    ],
)
def test_the_mend_knows_which_devices_saturate(
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    found: Arithmetic | None,
    model: str,
    word: str,
) -> None:
    cases = [
        case | {"logits": [9.0, 9.0, 9.0]} if case["model"] == model else case
        for case in json.loads(files[EXPECTED])
    ]
    path = make(tmp_path / "bundle", files | {EXPECTED: json.dumps(cases).encode()})
    monkeypatch.setattr(answers, "arithmetic_of", lambda *_: found)
    check = by_name(run(path))[f"answers of {model}"]
    assert word in (check.mend or "")


@pytest.mark.parametrize(
    ("device", "recorded", "passes", "said"),
    [
        (Arithmetic.EXACT, ("exact", "saturating"), True, "allowed in exact arithmetic"),
        (Arithmetic.SATURATING, ("exact", "saturating"), False, "allowed in saturating arithmetic"),
        (Arithmetic.SATURATING, ("exact",), True, "only one recorded; this device's is saturating"),
        (Arithmetic.EXACT, ("saturating",), False, "only one recorded; this device's is exact"),
        (None, ("exact",), True, "only one recorded; this device's is unknown"),
    ],
)
def test_a_device_is_held_to_what_is_recorded_of_its_arithmetic(
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    device: Arithmetic | None,
    recorded: tuple[str, ...],
    passes: bool,
    said: str,
) -> None:
    """What is recorded as exact is what the model gives here, what is recorded as saturating is not."""
    cases = json.loads(files[EXPECTED])
    mine = [case for case in cases if case["model"] == QUANTIZED]
    told = [
        case | {"arithmetic": kind, "logits": [value + shift for value in case["logits"]]}
        for kind, shift in (("exact", 0), ("saturating", 5))
        if kind in recorded
        for case in mine
    ]
    others = [case for case in cases if case["model"] == FLOAT]
    monkeypatch.setattr(answers, "arithmetic_of", lambda *_: device)
    path = make(tmp_path / "bundle", files | {EXPECTED: json.dumps(others + told).encode()})
    check = by_name(run(path))[f"answers of {QUANTIZED}"]
    assert check.passed is passes
    assert said in check.found
    assert "arithmetic" not in by_name(run(path))[f"answers of {FLOAT}"].found


def test_the_self_test_names_the_arithmetic_of_this_device(bundle: Path) -> None:
    found = by_name(run(bundle))["integer products"]
    assert found.passed
    assert found.found.startswith("saturating: " if may_saturate() else "exact: ")


def test_products_that_are_neither_exact_nor_saturating_fail(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "arithmetic_of", lambda *_: None)
    assert failed(run(bundle)) == ["integer products"]


def test_a_provider_that_does_not_take_the_products_is_not_judged_by_them(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: SessionSettings) -> None:
        raise ProviderError(f"{settings.provider} takes no node")

    monkeypatch.setattr(answers, "arithmetic_of", refuse)
    check = by_name(run(bundle, models=[FLOAT]))["integer products"]
    assert check.passed is None
    assert check.found == "could not be tried: cpu takes no node"


def test_a_model_without_recorded_answers_is_run_and_not_judged(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    del files[EXPECTED]
    result = run(make(tmp_path / "bundle", files))
    assert result.passed
    assert {check.passed for check in result.checks if check.name.startswith("answers")} == {None}


def test_a_model_that_does_not_load_fails_and_the_other_is_still_tested(
    tmp_path: Path, files: dict[str, bytes], data: Path
) -> None:
    files[FLOAT] = (data / "bad_unrunnable.onnx").read_bytes()
    result = run(make(tmp_path / "bundle", files))
    assert failed(result) == [f"answers of {FLOAT}"]
    assert "NoSuchOperator" in by_name(result)[f"answers of {FLOAT}"].found
    assert by_name(result)[f"answers of {QUANTIZED}"].passed


def test_only_the_named_models_are_run(bundle: Path) -> None:
    names = [check.name for check in run(bundle, models=[FLOAT]).checks]
    assert names == ["files", "onnxruntime", "source to float", "integer products", f"answers of {FLOAT}"]


def test_two_onnxruntime_wheels_fail(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = (Wheel("onnxruntime", "1.32.0"), Wheel("onnxruntime-gpu", "1.32.0"))
    monkeypatch.setattr(running, "onnxruntime_wheels", lambda: wheels)
    result = run(bundle)
    assert failed(result) == ["onnxruntime"]
    assert (by_name(result)["onnxruntime"].mend or "").startswith("run: pip uninstall -y onnxruntime ")


# Placement


@pytest.mark.parametrize(
    ("expected", "share", "passed"),
    [({CPU: 1.0}, 1.0, True), ({CPU: 0.95}, 0.945, True), ({CPU: 1.0}, 0.9, False), ({}, 1.0, None)],
)
def test_the_share_of_nodes_is_held_to_the_recorded_one(
    expected: dict[str, float], share: float, passed: bool | None
) -> None:
    placement = Placement(CPU, "requested", ((CPU, share), ("OtherExecutionProvider", 1 - share)))
    check = coverage(expected, placement)
    assert check.passed is passed
    assert f"cpu {share:.1%}" in check.found


def test_an_onnxruntime_that_records_no_placement_is_not_judged() -> None:
    assert coverage({CPU: 1.0}, Placement(CPU, "requested", ())).passed is None


# Latency


def with_latency(bundle: Path, record: LatencyRecord | None) -> Path:
    raw = json.loads((bundle / MANIFEST).read_text())
    raw["latency"] = [] if record is None else [plain.of(record)]
    (bundle / MANIFEST).write_text(json.dumps(raw))
    return bundle


def test_a_tenfold_latency_on_the_same_machine_fails(bundle: Path) -> None:
    result = run(with_latency(bundle, latency_record(min_ms=1e-6)))
    assert failed(result) == ["latency"]


ELSEWHERE = dataclasses.replace(describe_machine(), cpu="Another CPU")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(None, id="no figure"),
        pytest.param(changed(machine="Another CPU", environment=ELSEWHERE), id="other machine"),
        pytest.param(changed(providers=("OtherExecutionProvider",)), id="other provider"),
        pytest.param(changed(environment=None), id="machine not described"),
        pytest.param(changed(batch=8), id="other batch"),
        pytest.param(changed(path=FLOAT), id="other model"),
        pytest.param(changed(min_ms=0.0), id="figure of zero"),
    ],
)
def test_latency_that_cannot_be_compared_never_fails(bundle: Path, record: LatencyRecord | None) -> None:
    result = run(with_latency(bundle, record))
    assert result.passed
    assert by_name(result)["latency"].passed is None


def test_on_another_machine_the_ratio_is_told_all_the_same(bundle: Path) -> None:
    record = changed(min_ms=1000.0, machine="Another CPU", environment=ELSEWHERE)
    found = by_name(run(with_latency(bundle, record)))["latency"].found
    assert "times the recorded 1000.00 ms of another machine (Another CPU): not judged" in found


# Bad input, which is no failed check


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / MANIFEST).unlink(), MANIFEST),
        (lambda path: (path / MANIFEST).write_text("{"), "not valid JSON"),
        (lambda path: (path / MANIFEST).write_text('{"format_version": 9}'), "pip install --upgrade"),
    ],
)
def test_what_is_no_bundle_is_refused(bundle: Path, change: Callable[[Path], object], message: str) -> None:
    change(bundle)
    with pytest.raises(BundleError, match=message):
        run(bundle)


@pytest.mark.parametrize("text", ["{}", "[7]", '[{"image": "golden/0.png"}]', '["' + "x" * 50])
def test_a_malformed_golden_file_is_refused(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    path = make(tmp_path / "bundle", files | {EXPECTED: text.encode()})
    with pytest.raises(BundleError, match=r"expected\.json"):
        run(path)


def test_a_golden_file_that_claims_gigabytes_is_refused_unread(bundle: Path) -> None:
    raw = json.loads((bundle / MANIFEST).read_text())
    raw["files"][EXPECTED]["size"] = 2**31
    (bundle / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="larger than"):
        read_golden(read_bundle(bundle))


def cases_json(images: Sequence[str], each: int = 1) -> bytes:
    return golden_bytes(
        [GoldenCase(image, FLOAT, (0.0, 0.0, 0.0), 1.0) for image in images for _ in range(each)]
    )


def test_more_golden_images_than_a_selftest_needs_are_refused(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    picture = files["golden/0.png"]
    named = {f"golden/{index}.png": picture for index in range(65)}
    allowed = make(tmp_path / "allowed", files | named | {EXPECTED: cases_json([*named][:64])})
    assert len(read_golden(read_bundle(allowed))) == 64
    path = make(tmp_path / "bundle", files | named | {EXPECTED: cases_json([*named])})
    with pytest.raises(BundleError, match="more than 64 images"):
        run(path)


def test_more_golden_cases_than_a_selftest_needs_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = make(tmp_path / "bundle", files | {EXPECTED: cases_json(["golden/0.png"], each=4097)})
    with pytest.raises(BundleError, match="more than 4096 cases"):
        run(path)


def test_a_golden_image_longer_than_its_pixels_is_refused_unread(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = files["golden/0.png"] + bytes(70_000)
    path = make(tmp_path / "bundle", files | {"golden/0.png": long})
    monkeypatch.setattr(answers, "decode", None)
    with pytest.raises(BundleError, match=r"golden/0.png is longer than any picture of 8 x 8 pixels"):
        run(path)


def test_a_golden_image_of_many_pixels_is_not_decoded(tmp_path: Path, files: dict[str, bytes]) -> None:
    flat = png(np.zeros((2000, 2000, 3), np.uint8))
    assert len(flat) < 65_536
    result = run(make(tmp_path / "bundle", files | {"golden/0.png": flat}))
    assert "more than the limit of 64" in by_name(result)[f"answers of {FLOAT}"].found


def test_a_model_that_the_bundle_does_not_have_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no model 'onnx/other\.onnx'"):
        run(bundle, models=["onnx/other.onnx"])


def test_a_provider_that_is_not_installed_is_refused(bundle: Path) -> None:
    with pytest.raises(ProviderError, match="warp"):
        run(bundle, provider="warp")


# The command


def test_the_command_prints_and_writes_every_check(bundle: Path, tmp_path: Path, capsys: Output) -> None:
    report = tmp_path / "report.json"
    assert main(["selftest", str(bundle), "--provider", "cpu", "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    raw = json.loads(report.read_text())
    first, *added = ["passed", "checks", "machine"], "bundle", "manifest_sha256", "vit_edge"
    assert list(raw) == [*first, *added, "arithmetic", "measured"]
    assert raw["passed"] is True
    assert [list(check) for check in raw["checks"]] == [["name", "passed", "found", "mend"]] * 8
    assert len(lines) == 10
    assert lines[-1] == f"{bundle}: PASS"


def test_the_command_fails_with_the_mend(bundle: Path, capsys: Output) -> None:
    (bundle / FLOAT).write_bytes(b"rubbish")
    assert main(["selftest", str(bundle)]) == 1
    out, err = capsys.readouterr()
    assert "files: fetch the bundle again" in out
    assert out.splitlines()[-1] == f"{bundle}: FAIL (files)"
    assert err == ""


@pytest.mark.parametrize("words", [["nowhere"], [".", "--model", "x"], []])
def test_bad_input_is_one_line_and_status_2(words: list[str], capsys: Output) -> None:
    assert main(["selftest", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vit-edge: error: ")
    assert err.count("\n") == 1
