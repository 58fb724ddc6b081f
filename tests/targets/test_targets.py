"""Targets are data: strict TOML with inheritance, and no code knows their names or those of providers."""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

import vit_edge
from vit_edge.errors import TargetError
from vit_edge.spec import (
    ActivationType,
    Batch,
    InputForm,
    Packaging,
    PredictedLatency,
    QuantizedOperators,
    Verification,
    VerificationState,
)
from vit_edge.targets import find_target, list_targets, load_target

PACKAGE = Path(vit_edge.__file__).parent
ROOT = Path(__file__).resolve().parents[2]

COMPLETE = """
title = "A board"
description = "Its description."
activation_type = "uint8"
symmetric_activations = false
weight_type = "int8"
weight_bits = 8
per_channel = true
saturating = false
quantized_operators = "linear"
row_scales = true
wide_macs = 1.0
float_type = "float32"
graph_style = "kernels"
batch = "dynamic"
input_form = "pixel_values"
opset = 20
ir_version = 9
priority = 5

[session_options]
"session.qdqisint8allowed" = "1"

[provider]
name = "cpu"
packaging = "stock"
package = "onnxruntime"
devices = []
contexts = false

[provider.options]
arena = "small"

[provider.runs]
activation_types = ["uint8", "int8"]
weight_bits = [7, 8]
float_types = ["float32"]
batches = ["dynamic", "fixed"]
asymmetric = true

[requires]
systems = []
architectures = ["aarch64"]
flags_all = []
flags_any = []

[[verification]]
state = "verified"
where = "A desk"
what = "Run."
"""
OWN = """
title = "New"
description = "Newer."
"""
PREDICTED = """
[[predicted]]
device = "A desk"
model = "A model"
threads = 1
ratio = 0.5
least = 0.25
most = 1
how = "by counting"
"""
UNVERIFIED = """
[[verification]]
state = "unverified"
what = "Nobody tried."
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "board.toml").write_text(COMPLETE)
    return tmp_path


@pytest.mark.parametrize("name", list_targets())
def test_every_target_that_we_ship_loads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.provider.package
    assert target.verification


def test_targets_of_one_provider_say_the_same_of_where_it_comes_from() -> None:
    said: dict[str, set[tuple[object, ...]]] = {}
    for provider in (load_target(name).provider for name in list_targets()):
        origin = (provider.packaging, provider.package, provider.module, provider.extra)
        said.setdefault(provider.name, set()).add(origin)
    assert {name for name, origins in said.items() if len(origins) > 1} == set()


def test_every_extra_that_a_target_names_is_one_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for provider in (load_target(name).provider for name in list_targets()):
        assert provider.extra is None or provider.package in " ".join(
            project["optional-dependencies"][provider.extra]
        )


@pytest.mark.parametrize("name", list_targets())
def test_no_target_claims_a_check_without_saying_where(name: str) -> None:
    for entry in load_target(name).verification:
        assert (entry.where is None) is (entry.state is VerificationState.UNVERIFIED)


def test_the_portable_target_needs_no_option_and_any_batch_fits() -> None:
    portable = load_target("cpu")
    assert portable.session_options == ()
    assert portable.form.sizes is Batch.DYNAMIC
    assert portable.form.input is InputForm.PIXEL_VALUES


def test_a_target_is_read_field_by_field(folder: Path) -> None:
    board = load_target("board", folder)
    assert (board.title, board.form.activations, board.weight_bits) == ("A board", ActivationType.UINT8, 8)
    assert board.session_options == (("session.qdqisint8allowed", "1"),)
    assert board.quantized_operators is QuantizedOperators.LINEAR
    assert not board.integer_attention
    assert (board.provider.name, board.provider.packaging) == ("cpu", Packaging.STOCK)
    assert board.provider.options == (("arena", "small"),)
    assert (board.provider.module, board.provider.extra) == (None, None)
    assert board.requires.architectures == ("aarch64",)
    assert board.priority == 5
    assert board.verification == (Verification(VerificationState.VERIFIED, "Run.", "A desk"),)
    assert str(board.verification[0]) == "verified on A desk: Run."


def test_an_heir_changes_only_what_it_says(folder: Path) -> None:
    (folder / "new.toml").write_text(f'inherits = "board"\nweight_bits = 7\n{OWN}{UNVERIFIED}')
    new, board = load_target("new", folder), load_target("board", folder)
    assert (new.title, new.weight_bits) == ("New", 7)
    assert [entry.what for entry in new.verification] == ["Nobody tried."]
    own = {"name", "title", "description", "weight_bits", "verification", "predicted"}
    for field in dataclasses.fields(board):
        if field.name not in own:
            assert getattr(new, field.name) == getattr(board, field.name), field.name


def test_a_predicted_latency_is_read_and_says_that_nobody_measured_it(folder: Path) -> None:
    assert load_target("board", folder).predicted == ()
    (folder / "board.toml").write_text(COMPLETE + PREDICTED)
    board = load_target("board", folder)
    assert board.predicted == (PredictedLatency("A desk", "A model", 1, 0.5, 0.25, 1.0, "by counting"),)
    assert str(board.predicted[0]) == (
        "0.50 of float's latency (0.25 to 1.00), predicted and not measured: "
        "A model on A desk, 1 thread; by counting"
    )


def test_a_predicted_latency_is_no_verification_and_is_not_inherited(folder: Path) -> None:
    (folder / "board.toml").write_text(COMPLETE + PREDICTED)
    (folder / "new.toml").write_text(f'inherits = "board"\n{OWN}{UNVERIFIED}')
    board, new = load_target("board", folder), load_target("new", folder)
    assert [entry.what for entry in board.verification] == ["Run."]
    assert new.predicted == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("least = 0.25", "least = 0.6", "predicted.ratio must lie between least and most, got 0.6, 0.5, 1.0"),
        ("most = 1", "most = 0.4", "predicted.ratio must lie between least and most"),
        ("least = 0.25", "least = 0", "predicted.ratio must lie between least and most"),
        ("threads = 1", "threads = 0", "predicted.threads must be"),
        ("ratio = 0.5", 'ratio = "half"', "predicted.ratio must be"),
        ("ratio = 0.5", "", "predicted lacks the key 'ratio'"),
        ('how = "by counting"', 'how = ""', "predicted.how must be"),
        ('how = "by counting"', 'how = "by counting"\nstate = "verified"', "unknown key 'state'"),
    ],
)
def test_a_malformed_prediction_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    assert old in PREDICTED
    (folder / "board.toml").write_text(COMPLETE + PREDICTED.replace(old, new))
    with pytest.raises(TargetError, match=message):
        load_target("board", folder)


def test_an_heir_may_change_one_key_of_a_table(folder: Path) -> None:
    tables = '[provider.options]\nspeed = "high"\n[requires]\narchitectures = []\n'
    (folder / "new.toml").write_text(f'inherits = "board"\n{OWN}{tables}{UNVERIFIED}')
    new, board = load_target("new", folder), load_target("board", folder)
    assert dict(new.provider.options) == {"arena": "small", "speed": "high"}
    assert new.provider.runs == board.provider.runs
    assert new.requires.architectures == ()


@pytest.mark.parametrize("key", ["title", "description", "verification"])
def test_what_speaks_of_one_target_is_not_inherited(folder: Path, key: str) -> None:
    own = {"title": 'title = "New"', "description": 'description = "Newer."', "verification": UNVERIFIED}
    lines = [line for name, line in own.items() if name != key]
    (folder / "new.toml").write_text("\n".join(['inherits = "board"', *lines]))
    with pytest.raises(TargetError, match=f"lacks the key '{key}'"):
        load_target("new", folder)


@pytest.mark.parametrize("name", ["nonesuch", "../board", "board.toml", "", "/etc/passwd", "BOARD"])
def test_a_name_that_is_not_listed_is_refused_with_those_that_are(folder: Path, name: str) -> None:
    with pytest.raises(TargetError, match=r"unknown target.*known are board"):
        load_target(name, folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A board"', 'titel = "A board"', "unknown key 'titel'"),
        ('title = "A board"', "", "lacks the key 'title'"),
        ('title = "A board"', "title = 3", "title must be a non-empty string"),
        ('e = "uint8"', 'e = "uint12"', "activation_type must be one of uint8, int8, uint16, int16"),
        (
            'e = "uint8"',
            'e = "uint16"',
            "activation_type uint16 is not what provider cpu runs, which is uint8, int8",
        ),
        ("weight_bits = 8", "weight_bits = 3", "weight_bits must be one of 4, 7, 8"),
        ("wide_macs = 1.0", "wide_macs = 1.5", "wide_macs must be 0 to 1, got 1.5"),
        ("wide_macs = 1.0", 'wide_macs = "all"', "wide_macs must be a finite number"),
        ("weight_bits = 8", "weight_bits = 8.0", "weight_bits must be one of 4, 7, 8"),
        ("weight_bits = 8", "weight_bits = 4", "weight_bits 4 is not what provider cpu runs, which is 7, 8"),
        ('float_type = "float32"', 'float_type = "float16"', "float_type float16 is not what provider cpu"),
        ('["dynamic", "fixed"]', '["fixed"]', "batch dynamic is not what provider cpu runs"),
        ('["uint8", "int8"]', "[]", "activation_type uint8 is not what .* runs, which is none"),
        ("asymmetric = true", "asymmetric = false", "symmetric_activations must be true"),
        ("symmetric_activations = false", "symmetric_activations = true", "go with a signed activation_type"),
        ('quantized_operators = "linear"', 'quantized_operators = "some"', "quantized_operators must be one"),
        ('"kernels"', '"fancy"', "graph_style must be one of kernels, codes, compiler"),
        ("priority = 5", "priority = -1", "priority must be an integer from 0 to"),
        ('packaging = "stock"', 'packaging = "box"', "provider.packaging must be one of"),
        ('packaging = "stock"', 'packaging = "plugin"', "provider.module goes with packaging plugin"),
        ('packaging = "stock"', 'packaging = "stock"\nmodule = "m"', "provider.module goes with packaging"),
        ('name = "cpu"', 'name = "CPU"', "provider.name must be in lower case"),
        ('name = "cpu"', 'nom = "cpu"', "provider has the unknown key 'nom'"),
        ("devices = []", 'devices = ["tpu"]', "provider.devices must be one of npu, gpu, cpu"),
        ('arena = "small"', "arena = 3", "provider.options.arena must be a non-empty string"),
        ('architectures = ["aarch64"]', 'architectures = "aarch64"', "requires.architectures must be a list"),
        ("flags_all = []", "", "requires lacks the key 'flags_all'"),
        ('state = "verified"', 'state = "hoped"', "verification.state must be one of"),
        ('state = "verified"', 'state = "unverified"', "verification.where is needed for what was run"),
        ('where = "A desk"', "", "verification.where is needed for what was run"),
        ("per_channel = true", "per_channel = 1", "per_channel must be true or false"),
        ('batch = "dynamic"', 'batch = "free"', "batch must be one of"),
        ('"pixel_values"', '"images"', "input_form must be one of"),
        ("session.qdqisint8allowed", "session.load_model_format", "session.load_model_format"),
        ('allowed" = "1"', 'allowed" = 1', "must be '0' or '1'"),
        ("per_channel = true", "per_channel = ", "not valid TOML"),
        ("per_channel = true", "inherits = 3\nper_channel = true", "inherits must be a name"),
        ("per_channel = true", 'inherits = "ghost"\nper_channel = true', r"'ghost' \(inherited by board\)"),
    ],
)
def test_a_malformed_target_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    assert old in COMPLETE
    (folder / "board.toml").write_text(COMPLETE.replace(old, new))
    with pytest.raises(TargetError, match=message):
        load_target("board", folder)


def test_a_target_that_inherits_itself_is_refused(folder: Path) -> None:
    (folder / "a.toml").write_text('inherits = "b"')
    (folder / "b.toml").write_text('inherits = "a"')
    with pytest.raises(TargetError, match="a -> b -> a"):
        load_target("a", folder)


def test_a_file_that_is_not_text_or_far_too_large_is_refused(folder: Path) -> None:
    (folder / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        load_target("bytes", folder)
    (folder / "large.toml").write_text("# padding\n" * 10_000)
    with pytest.raises(TargetError, match="larger than"):
        load_target("large", folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read"):
        list_targets(tmp_path / "nowhere")


def test_ones_own_file_is_a_target_and_inherits_from_ours(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(f'inherits = "cpu-arm64"\nbatch = "dynamic"\n{OWN}{UNVERIFIED}')
    camera, arm = find_target(str(path)), load_target("cpu-arm64")
    assert (camera.name, camera.form.sizes) == ("camera", Batch.DYNAMIC)
    assert (camera.form.input, camera.requires, camera.provider) == (
        arm.form.input,
        arm.requires,
        arm.provider,
    )


def test_ones_own_file_may_stand_alone(folder: Path) -> None:
    path = str(folder / "board.toml")
    assert find_target(path) == load_target("board", folder)


def test_a_name_without_a_file_is_one_of_ours() -> None:
    assert find_target("cpu") == load_target("cpu")
    with pytest.raises(TargetError, match="unknown target 'camera'"):
        find_target("camera")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("camera.toml", None, "cannot be read"),
        ("camera.toml", 'inherits = "ghost"', r"unknown target 'ghost' \(inherited by camera\)"),
        ("camera.toml", "colour = 3", "unknown key 'colour'"),
        ("Camera 1.toml", COMPLETE, "'Camera 1' is no name for a target"),
        (".toml", COMPLETE, "no name for a target"),
        ("cpu.toml", COMPLETE, "'cpu' is the name of a target that exists; rename the file"),
    ],
)
def test_ones_own_file_that_is_no_target_is_refused_by_its_path(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(TargetError, match=message):
        find_target(str(path))


def names_branched_on(source: str) -> set[str]:
    """String literals that are compared, matched or looked up."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue | ast.Subscript):
            parts = [node.value if isinstance(node, ast.MatchValue) else node.slice]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        for part in parts:
            inner = ast.walk(part) if part is not None else ()
            found |= {n.value for n in inner if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ('if target.name == "board": pass', True),
        ('if target.name in ("x", "board"): pass', True),
        ('match name:\n    case "board": pass', True),
        ('{"board": 1}', True),
        ('table["board"]', True),
        ('print("board")', False),
    ],
)
def test_the_search_for_branches_finds_them(source: str, caught: bool) -> None:
    assert ("board" in names_branched_on(source)) is caught


PORTABLE = {"cpu"}  # the one that every machine has, of targets and of providers


def test_no_code_branches_on_a_targets_name() -> None:
    names = set(list_targets()) - PORTABLE
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        assert not names & names_branched_on(source), path
        assert not [name for name in names if "-" in name and name in source], path


def words_of_code(source: str) -> set[str]:
    """Words of string literals, identifiers and imports, in lower case; not of comments and docstrings."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            texts.append(node.value)
        elif isinstance(node, ast.Name | ast.Attribute | ast.alias):
            texts.append(
                str(getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "name", ""))
            )
    return {word for text in texts for word in re.findall(r"[\w-]+", text.lower())}


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ('x = "maker"', True),
        ('x = f"of the Maker {y}"', True),
        ("import maker", True),
        ("maker.load()", True),
        ('"""Of a maker."""', False),
        ("x = 1  # maker", False),
        ('x = "filmmaker"', False),
    ],
)
def test_the_search_for_words_finds_them(source: str, caught: bool) -> None:
    assert ("maker" in words_of_code(source)) is caught


def test_no_code_names_a_provider_or_what_it_comes_in() -> None:
    providers = [load_target(name).provider for name in list_targets()]
    stock = {load_target(name).provider.package for name in PORTABLE}
    names = {name for each in providers for name in (each.name, each.package, each.module) if name}
    names -= PORTABLE | stock
    drivers = PACKAGE / "host" / "compilers"  # each of one compiler
    for path in (each for each in PACKAGE.rglob("*.py") if drivers not in each.parents):
        found = names & words_of_code(path.read_text())
        assert not found, f"{path} names {found}"
