"""What the host sees: dead parts, massive activations, positions, the other pooling, a finer size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.host.doctor.damage import (
    Change,
    array,
    canonical,
    linear_of,
    mean_pooling,
    put,
    spec_of,
    table_of,
    written,
)
from tests.host.vit_forms import FORMS, Export, export_of
from vit_edge.cli import main
from vit_edge.diagnosis import Code, Diagnosis, Finding
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.doctor.examine import diagnose_file, diagnose_source
from vit_edge.host.doctor.inside import look_inside
from vit_edge.host.doctor.pooling import other_pooling
from vit_edge.host.doctor.table import look_at_table
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.doctor.examination import Examination, Subject
from vit_edge.runtime.doctor.examine import DoctorSettings
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.session.session import SessionSettings

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = DoctorSettings(SessionSettings("cpu", threads=1))


def seen_inside(
    model: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], change: Change | None = None
) -> list[Finding]:
    return look_inside(canonical(model, change), spec_of(model), digits[0][::20])


def seen_in_table(model: onnx.ModelProto, change: Change | None = None) -> Diagnosis:
    examination = Examination()
    look_at_table(canonical(model, change), examination)
    return examination.finished(Subject("digits", 0, False), 0, 0.01)


def without_head(weight: np.ndarray, _: np.ndarray) -> None:
    weight[32:64] = 0  # of the projection behind attention: rows of head 1


def without_values(weight: np.ndarray, bias: np.ndarray) -> None:
    weight[:, 2 * 96 + 32 : 2 * 96 + 64] = 0  # of q, k and v side by side: the values of head 1
    bias[2 * 96 + 32 : 2 * 96 + 64] = 1  # which is the same for every token, and so a part of the next bias


def only_the_class_token(model: onnx.ModelProto) -> None:
    """Head 1 of the first block looks at the class token alone, which no image has changed yet."""
    token = array(model, "cls_token")[0, 0] + array(model, "pos_embed")[0, 0]
    scale, shift = array(model, "blocks.0.norm1.weight"), array(model, "blocks.0.norm1.bias")
    seen = (token - token.mean()) / token.std() * scale + shift

    def change(weight: np.ndarray, bias: np.ndarray) -> None:
        weight[:, 32:64] = weight[:, 96 + 32 : 96 + 64] = bias[32:64] = 0
        bias[32] = 1
        weight[:, 96 + 32] = 20 * seen

    linear_of("blocks.0.attn.qkv.bias", change)(model)


def silent(weight: np.ndarray, bias: np.ndarray) -> None:
    weight[:] = 0
    bias[:] = 0


def test_nothing_is_dead_in_a_sound_model(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    assert seen_inside(sound, digits) == []


@pytest.mark.parametrize(
    ("bias", "change", "code", "said"),
    [
        ("blocks.1.attn.proj.bias", without_head, Code.DEAD_HEAD, "add nothing: blocks.1 head 1"),
        ("blocks.2.attn.qkv.bias", without_values, Code.DEAD_HEAD, "add nothing: blocks.2 head 1"),
        ("blocks.1.mlp.fc2.bias", silent, Code.DEAD_BLOCK, "MLP of blocks.1"),
    ],
)
def test_dead_parts_are_named(
    bias: str,
    change: object,
    code: Code,
    said: str,
    sound: onnx.ModelProto,
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    found = seen_inside(sound, digits, linear_of(bias, change))  # type: ignore[arg-type]
    assert [each.code for each in found] == [code]
    assert said in found[0].what


def test_a_head_that_no_image_moves_is_named(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = seen_inside(sound, digits, only_the_class_token)
    assert [each.code for each in found] == [Code.DEAD_HEAD]
    assert "add the same whatever the image: blocks.0 head 1" in found[0].what


def test_a_massive_activation_is_named_with_its_place(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """Patch 5 stands out in channel 7, which a hidden unit of the first block picks up."""

    def change(model: onnx.ModelProto) -> None:
        table = array(model, "pos_embed")
        table[0, 1 + 5, 7] += 500
        put(model, "pos_embed", table)
        linear_of("blocks.0.mlp.fc1.bias", pick)(model)

    def pick(weight: np.ndarray, bias: np.ndarray) -> None:
        weight[:, 11] = 0
        weight[7, 11] = 300 / array(sound, "blocks.0.norm2.weight")[7]
        bias[11] = -1500

    found = [each for each in seen_inside(sound, digits, change) if each.code is Code.MASSIVE_ACTIVATIONS]
    assert "in front of blocks.0.fc2, patch at row 1, column 1, channel 11" in found[0].what


def test_positions_of_a_sound_model_stand_in_order(sound: onnx.ModelProto) -> None:
    found = seen_in_table(sound)
    assert found.findings == ()
    assert {Code.POSITIONS_SHUFFLED, Code.POSITIONS_OF_OTHER_SIZE} <= set(found.clear)


def test_shuffled_positions_are_named(sound: onnx.ModelProto) -> None:
    order = np.random.default_rng(3).permutation(16)
    found = seen_in_table(sound, table_of(lambda table: table[order]))
    assert [each.code for each in found.findings] == [Code.POSITIONS_SHUFFLED]


def test_positions_of_another_grid_are_named(sound: onnx.ModelProto) -> None:
    """Those of a grid of 8 columns, cut off after 16 patches."""
    rows, columns = np.divmod(np.arange(64), 8)
    waves = [np.sin((axis[:, None] + 0.5) * np.pi * k / 8) for axis in (rows, columns) for k in range(1, 49)]
    wide = np.concatenate(waves, axis=1)
    found = seen_in_table(sound, table_of(lambda table: table.mean(axis=0) + wide[:16]))
    assert [each.code for each in found.findings] == [Code.POSITIONS_OF_OTHER_SIZE]
    assert "rows of 8 patches, and the model has 4 rows of 4" in found.findings[0].what


def test_positions_that_are_all_the_same_are_left_to_the_other_check(sound: onnx.ModelProto) -> None:
    found = seen_in_table(sound, table_of(lambda table: 0 * table))
    assert found.findings == ()
    reasons = {each.code: each.reason for each in found.not_checked}
    assert "all are the same" in reasons[Code.POSITIONS_SHUFFLED]


def test_a_head_that_reads_the_mean_is_named(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    found = diagnose_file(written(sound, tmp_path / "mean.onnx", mean_pooling), images, SETTINGS)
    finding = next(each for each in found.findings if each.code is Code.POOLING)
    assert "class token in place of the mean" in finding.what
    assert "export the model with its own pooling" in finding.mend


def test_a_sound_file_is_clear_of_all_that_the_host_looks_for(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    found = diagnose_file(written(sound, tmp_path / "m.onnx"), images, SETTINGS)
    assert found.findings == ()
    left = {each.code for each in found.not_checked}
    assert left == {
        Code.CHANNEL_ORDER,
        Code.INTERPOLATION,
        Code.IMAGE_SIZE,
        Code.FEW_TOKENS,
        Code.BELOW_EXPECTED,
    }


def test_a_model_without_a_class_token_has_no_other_pooling(sound: onnx.ModelProto) -> None:
    """What cannot be tried is said."""
    tried = other_pooling(canonical(sound))
    assert tried[0] == "mean of the patches in place of the class token"
    patches_alone = canonicalise(
        normal_form(export_of(FORMS["mean-relu"], Export(False, 17, None)), "x"), "x"
    )
    assert other_pooling(patches_alone) == "the model has no class token"
    no_vit = Canonical("x", patches_alone.model, (), None, "no ViT")
    assert other_pooling(no_vit) == "the model is no plain ViT"


def test_patches_that_are_too_coarse_are_named(images: ImageSet) -> None:
    """The embedded model at half its size sees four patches; at its own size it is right."""
    text, options = str(ROOT / "models" / "digits_vit"), SourceOptions(image_size=(16, 16))
    found = diagnose_source(resolve(text, options), options, text, images.first(60), SETTINGS)
    finding = next(each for each in found.findings if each.code is Code.FEW_TOKENS)
    assert "32x32 pixels" in finding.what


def test_the_command_names_what_is_wrong_and_ends_with_1(
    images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images.paths[0].parents[1]
    wrong = ["--mean", "0", "0", "0", "--std", "0.003", "0.003", "0.003"]
    source = str(ROOT / "models" / "digits_vit")
    words = ["doctor", source, "--data", str(folder), "--limit", "40", "--threads", "1"]
    assert main([*words, *wrong, "--json", str(tmp_path / "found.json")]) == 1
    text = capsys.readouterr().out
    assert "error normalisation: mean, std and scale do not fit" in text
    assert "clear: " in text
    assert "(Holm)" in text
    assert '"clear": [' in (tmp_path / "found.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.onnx", "--data", "."], "nowhere.onnx does not exist"),
        (["{source}", "--data", "nowhere"], "nowhere does not exist"),
        (["{source}", "--data", ".", "--limit", "0"], "--limit must be at least 1"),
        (["{source}", "--data", ".", "--expect-top1", "101"], "--expect-top1 must be above 0"),
        (
            ["{source}", "--data", ".", "--json", "nowhere/found.json"],
            "--json nowhere/found.json cannot be written",
        ),
    ],
)
def test_the_command_refuses_in_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("image.png")
    source = str(ROOT / "models" / "digits_vit")
    assert main(["doctor", *(word.format(source=source) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
