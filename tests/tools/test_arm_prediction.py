"""Predicted latency on Arm: instructions are read, blocks weighed and predictions judged as they should."""

import shutil
from pathlib import Path

import pytest

from tools.arm64_parity.emulator import CORES_TESTED, RunFailedError
from tools.arm64_parity.root import default_cache, existing_root, run
from tools.arm_prediction import counting
from tools.arm_prediction.__main__ import main, summed_up
from tools.arm_prediction.a64 import InstructionClass, by_class, class_of
from tools.arm_prediction.cores import CORTEX_A72, CORTEX_A76, PI_5
from tools.arm_prediction.counting import Section, build_plugin, by_operator, missing, read_sections, total
from tools.arm_prediction.model import Band, band, compare, efficiency
from tools.arm_prediction.networks import LARGEST_WEIGHTS, NETWORKS
from tools.arm_prediction.public import Measured
from tools.arm_prediction.weighing import cost, hottest, rounds, shared_out, version_of
from vit_edge.errors import UsageError

NOP, ADD = "d503201f", "8b010000"  # of one instruction each
C = InstructionClass


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        (0x6F84E031, "udot v17.4s, v1.16b, v4.4b[0]", C.DOT),
        (0x4E829420, "sdot v0.4s, v1.16b, v2.16b", C.DOT),
        (0x0E24C00C, "smull v12.8h, v0.8b, v4.8b", C.MULTIPLY_LONG),
        (0x0E28804C, "smlal v12.8h, v2.8b, v8.8b", C.MULTIPLY_LONG),
        (0x4F402094, "smlal2 v20.4s, v4.8h, v0.h[0]", C.MULTIPLY_LONG),
        (0x4E606998, "sadalp v24.4s, v12.8h", C.PAIRWISE_ADD),
        (0x6E606998, "uadalp v24.4s, v12.8h", C.PAIRWISE_ADD),
        (0x4F881090, "fmla v16.4s, v4.4s, v8.s[0]", C.FLOAT_FMA),
        (0x4E31CD36, "fmla v22.4s, v9.4s, v17.4s", C.FLOAT_FMA),
        (0x4F001194, "fmla v20.8h, v12.8h, v0.h[0]", C.FLOAT_FMA),
        (0x6E3EFC42, "fdiv v2.4s, v2.4s, v30.4s", C.FLOAT_DIVIDE),
        (0x1E3E1BBE, "fdiv s30, s29, s30", C.FLOAT_DIVIDE),
        (0x6E31DE31, "fmul v17.4s, v17.4s, v17.4s", C.OTHER_VECTOR),
        (0x4EB28484, "add v4.4s, v4.4s, v18.4s", C.OTHER_VECTOR),
        (0x0E628420, "add v0.4h, v1.4h, v2.4h", C.OTHER_VECTOR),
        (0x3CC10408, "ldr q8, [x0], #16", C.LOAD_VECTOR),
        (0xACC81424, "ldp q4, q5, [x1], #256", C.LOAD_VECTOR),
        (0x4CDF7020, "ld1 {v0.16b}, [x1], #16", C.LOAD_VECTOR),
        (0x3C810404, "str q4, [x0], #16", C.STORE_VECTOR),
        (0xAD3C65B5, "stp q21, q25, [x13, #-128]", C.STORE_VECTOR),
        (0xF9404274, "ldr x20, [x19, #128]", C.LOAD_STORE),
        (0xA9BC7BFD, "stp x29, x30, [sp, #-64]!", C.LOAD_STORE),
        (0xD1000463, "sub x3, x3, #1", C.INTEGER),
        (0x8B010000, "add x0, x0, x1", C.INTEGER),
        (0x54FFFEC1, "b.ne #-40", C.BRANCH),
        (0xD65F03C0, "ret", C.BRANCH),
        (0xD503201F, "nop", C.BRANCH),
    ],
)
def test_an_instruction_belongs_to_its_class(word: int, text: str, expected: InstructionClass) -> None:
    assert class_of(word) is expected, text


def test_classes_are_counted_as_often_as_their_block_ran() -> None:
    assert by_class({ADD + NOP: 3, ADD: 4}) == {C.INTEGER: 7, C.BRANCH: 3}


def test_what_the_counter_writes_is_read_section_by_section() -> None:
    lines = [f"B 7 {ADD}", "C 7 2", "S", f"B 9 {NOP}", "C 9 1", "C 7 5", "S", "E"]
    first, second, last = read_sections(lines)
    assert (first.runs, first.clock) == ({ADD: 2}, True)
    assert (second.runs, second.clock) == ({NOP: 1, ADD: 5}, True)
    assert (last.runs, last.clock) == ({}, False)
    assert total([first, second, last]) == {ADD: 7, NOP: 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "was not marked twice"),
        ([f"B 7 {ADD}", "C 7 2", "S"], "was not marked twice"),
        (["C 7 2", "E"], "'C 7 2', which is not of its form"),
        (["X", "E"], "not of its form"),
        (["B 7", "E"], "not of its form"),
    ],
)
def test_a_file_of_counts_that_is_cut_short_or_foreign_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(RunFailedError, match=message):
        read_sections(lines)


def test_operators_lie_between_two_readings_of_the_clock() -> None:
    sections = [Section({}, True)] * 4  # up to the start of the first operator
    for number in (1, 2, 3):
        sections += [Section({ADD: number}, True), Section({NOP: 1}, True)]
    sections += [Section({}, True)] * 5 + [Section({}, False)]
    assert by_operator(sections, ["MatMul", "Softmax", "MatMul"]) == {"MatMul": {ADD: 4}, "Softmax": {ADD: 2}}
    assert by_operator(sections, ["MatMul", "Softmax"]) is None
    assert by_operator(sections[1:], ["MatMul", "Softmax", "MatMul"]) is None


def test_the_hottest_blocks_are_taken_until_they_cover_the_share() -> None:
    runs = {ADD + ADD: 40, ADD: 15, NOP: 5}  # 80, 15 and 5 of 100 instructions
    assert hottest(runs, 0.8) == [ADD + ADD]
    assert hottest(runs, 0.95) == [ADD + ADD, ADD]
    assert hottest(runs, 1.0) == [ADD + ADD, ADD, NOP]
    assert hottest({}, 1.0) == []


def test_a_round_takes_no_less_than_its_instructions_take_to_be_decoded() -> None:
    regions = [
        {"Name": "0", "SummaryView": {"TotalCycles": 820, "Iterations": 100}},
        {"Name": "1", "SummaryView": {"TotalCycles": 50, "Iterations": 100}},
    ]
    assert rounds(regions, [ADD, ADD * 8], decoded=4) == [8.2, 2.0]
    with pytest.raises(UsageError, match="nothing of block 2 of 3"):
        rounds(regions, [ADD, ADD, ADD], decoded=4)


def test_blocks_of_unknown_cycles_cost_as_much_as_the_others_on_average() -> None:
    runs = {ADD * 4: 10, NOP: 10}  # 40 instructions of known and 10 of unknown cycles
    spent = cost(runs, {ADD * 4: 2.0})
    assert spent.instructions == 50
    assert spent.cycles == pytest.approx(2.0 * 10 * 50 / 40, rel=1e-12)
    with pytest.raises(UsageError, match="none of the blocks"):
        cost(runs, {})


def test_blocks_are_dealt_to_operators_and_what_only_a_profile_runs_to_none() -> None:
    runs = {ADD: 10, NOP: 6}
    dealt = shared_out(runs, {"MatMul": {ADD: 8, ADD + NOP: 100}, "Softmax": {ADD: 1, NOP: 12}})
    assert dealt == {"": {ADD: 1}, "MatMul": {ADD: 8}, "Softmax": {ADD: 1, NOP: 6}}


def row(
    board: str = "A board", threads: int | None = 1, network: str = "ResNet-18", int8: float = 60.0
) -> Measured:
    return Measured(board, CORTEX_A76, 2.0, threads, network, 100.0, int8, "nowhere")


CYCLES = {
    ("cortex-a76", "ResNet-18", False): 160e6,
    ("cortex-a76", "ResNet-18", True): 80e6,
    ("cortex-a76", "VGG-16", False): 200e6,
    ("cortex-a76", "VGG-16", True): 200e6,
}


def test_a_prediction_is_cycles_by_clock_and_threads() -> None:
    one, four = compare([row(), row(threads=4)], CYCLES)
    assert (one.float_ms, one.int8_ms, one.ratio) == (80.0, 40.0, 0.5)
    assert (four.float_ms, four.int8_ms, four.ratio) == (20.0, 10.0, 0.5)
    assert one.measured_ratio == pytest.approx(0.6)
    assert one.deviation == pytest.approx(0.5 / 0.6)
    assert efficiency([one, four], "cortex-a76") == pytest.approx(0.8)


def test_the_band_is_the_largest_deviation_in_either_direction() -> None:
    compared = compare([row(), row(network="VGG-16", int8=80.0), row(threads=4, int8=10.0)], CYCLES)
    found = band(compared)
    assert found.ratio == pytest.approx(1.0 / 0.8)  # VGG-16: predicted 1, measured 0.8; the other 0.5 to 0.6
    # Of speed 0.8: ResNet-18 100 and 50 ms beside 100 and 60, VGG-16 125 and 125 beside 100 and 80.
    assert found.latency == pytest.approx(125 / 80)
    assert band(compared, threads=4).ratio == pytest.approx(5.0)


def test_what_was_not_counted_or_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="MobileNet was not counted on cortex-a76"):
        compare([row(network="MobileNet")], CYCLES)
    with pytest.raises(UsageError, match="no measurement of ResNet-18 with one thread on cortex-a72"):
        efficiency(compare([row()], CYCLES), "cortex-a72")
    with pytest.raises(UsageError, match="no published measurement with 2 threads"):
        band(compare([row()], CYCLES), threads=2)


def test_a_measurement_of_unstated_threads_is_compared_and_bands_leave_it_out() -> None:
    compared = compare([row(), row(threads=None, int8=10.0)], CYCLES)
    assert compared[1].deviation == pytest.approx(5.0)
    assert band(compared).ratio == pytest.approx(0.6 / 0.5)


def test_a_model_is_summed_up_by_ratio_latency_and_band() -> None:
    found = {"float": {"million_cycles": 240.0}, "int8": {"million_cycles": 120.0}}
    made = summed_up(PI_5, found, reached=0.5, spread=Band(1.25, 2.0))
    assert made["predicted_ratio"] == {"ratio": 0.5, "least": 0.4, "most": 0.62}
    assert made["predicted_ms"]["float"] == {"latency": 200.0, "least": 100.0, "most": 400.0}
    assert made["predicted_ms"]["int8"] == {"latency": 100.0, "least": 50.0, "most": 200.0}


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("name", "parameters"),  # of torchvision's models without batch norm; MobileNet's paper says 4.2 million
    [("ResNet-18", 11.7e6), ("ResNet-50", 25.5e6), ("MobileNet", 4.2e6), ("VGG-16", 138.3e6)],
)
def test_a_network_has_the_weights_of_its_paper_and_every_tensor_once(
    name: str, parameters: float, int8: bool
) -> None:
    magic, sizes, *lines = NETWORKS[name](int8).splitlines()
    assert magic == "7767517"
    layers, tensors = map(int, sizes.split())
    assert layers == len(lines)
    made: list[str] = []
    weights = 0
    for line in lines:
        kind, _, inputs, outputs, *rest = line.split()
        names, options = rest[: int(inputs) + int(outputs)], rest[int(inputs) + int(outputs) :]
        for taken in names[: int(inputs)]:
            assert taken in made
            assert sum(taken in each.split()[4 : 4 + int(each.split()[2])] for each in lines) == 1
        made += names[int(inputs) :]
        key = {"Convolution": "6=", "ConvolutionDepthWise": "6=", "InnerProduct": "2="}.get(kind, "none")
        weights += sum(int(each[2:]) for each in options if each.startswith(key))
    assert tensors == len(made) == len(set(made))
    assert weights == pytest.approx(parameters, rel=0.01)
    assert 4.1 * weights < LARGEST_WEIGHTS


def test_a_prediction_before_any_validation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.arm_prediction.__main__.version_of", lambda _: "LLVM 19")
    words = ["--model", "a", "f.onnx", "i.onnx", "-o", str(tmp_path / "out.json")]
    assert main(words) == 2
    assert "holds no validation yet; run the command without --model first" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["no json", "[1]"])
def test_a_results_file_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    monkeypatch.setattr("tools.arm_prediction.__main__.version_of", lambda _: "LLVM 19")
    path = tmp_path / "out.json"
    path.write_text(content)
    assert main(["-o", str(path)]) == 2
    assert "name a JSON file of this tool" in capsys.readouterr().err
    assert path.read_text() == content


def test_absent_or_old_tools_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--llvm", str(tmp_path), "-o", str(tmp_path / "out.json")]) == 2
    assert "llvm-mca cannot be run" in capsys.readouterr().err
    old = tmp_path / "llvm-mca"
    old.write_text("#!/bin/sh\necho Debian LLVM version 14.0.6\n")
    old.chmod(0o755)
    with pytest.raises(UsageError, match="no LLVM 16 or newer"):
        version_of(tmp_path)
    old.write_text("#!/bin/sh\necho Debian LLVM version 19.1.7\n")
    assert version_of(tmp_path) == "LLVM 19.1.7"


def test_where_something_is_missing_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "missing_root", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "cc" else tool)
    assert missing() == "needs Debian's gcc; run: apt-get install gcc"
    monkeypatch.setattr(counting, "missing_root", lambda: "needs the rights of root")
    assert missing() == "an arm64 root file system needs the rights of root"


def test_the_plugin_compiles_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(counting, "run", lambda command: run([*command, "-Wall", "-Wextra", "-Werror"]))
    build_plugin(tmp_path / "counter.so")
    assert (tmp_path / "counter.so").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.skipif(
    missing() is not None or existing_root(default_cache()) is None,
    reason=f"{missing() or 'needs an arm64 root file system, which python -m tools.arm64_parity sets up'}",
)
def test_multiplications_of_a_convolution_are_counted_on_emulated_cores() -> None:
    """Two 1x1 convolutions have known multiply-adds; in float all of them are FMLA, of the core's width."""
    try:
        root = counting.ensure_counter(default_cache())
    except UsageError as error:  # such as where no package index answers
        pytest.skip(str(error))
    side, taken, given = 224, 64, 64
    options = f"0={given} 1=1 2=1 3=1 4=0 5=1 6={taken * given}"
    head = f"7767517\n3 3\nInput in 0 1 data 0={side} 1={side} 2=3\n"
    first = f"Convolution a 1 1 data made 0={taken} 1=1 2=1 3=1 4=0 5=1 6={3 * taken}\n"
    text = f"{head}{first}Convolution b 1 1 made out {options}\n"
    sizes = side**2 * taken * (3 + given)
    for core in CORES_TESTED:
        classes = by_class(counting.count_ncnn(root, core, text))
        lanes = 8 if core.name == CORTEX_A76.core.name else 4  # half precision where the core has it
        assert classes[C.FLOAT_FMA] * lanes == pytest.approx(sizes, rel=0.05)
        assert C.DOT not in classes
    assert {core.name for core in CORES_TESTED} == {CORTEX_A72.core.name, CORTEX_A76.core.name}
